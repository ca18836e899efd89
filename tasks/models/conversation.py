from __future__ import annotations

from django.db import models

from tasks.models.run import Run, Turn


class Conversation(models.Model):
    """The agent's own file of what was said in a run, as it can be gone on with elsewhere: `content` is its lines of JSON, redacted and
    compressed by zlib. `turn` is the last one in it; its `conversation` is the agent's id of it."""

    run = models.OneToOneField(Run, models.CASCADE, related_name="kept_conversation")
    turn = models.ForeignKey(Turn, models.CASCADE, related_name="+")
    content = models.BinaryField()

    def __str__(self) -> str:
        return f"conversation of run {self.run_id}"
