from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef

if TYPE_CHECKING:
    from tasks.models.account import User


class AttachmentQuerySet(models.QuerySet["Attachment"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(owner=user)

    def drafts(self) -> Self:
        """Those that no turn has."""
        return self.filter(~self._has_turn())

    def sent(self) -> Self:
        """Those that a turn has."""
        return self.filter(self._has_turn())

    def _has_turn(self) -> Exists:
        return Exists(self.model.turns.through.objects.filter(attachment=OuterRef("pk")))


class Attachment(models.Model):
    """A file that goes with prompts (Turn.attachments); one that no turn has is a draft's. Never changed once it is there.

    In the database, not the data folder, because any host may start the run that needs it.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="attachments")
    name = models.CharField(max_length=200)
    content_type = models.CharField(max_length=100)
    content = models.BinaryField()
    size = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name
