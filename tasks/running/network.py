"""What sandboxes tried to reach, as events of their runs."""

from __future__ import annotations

import logging
from dataclasses import asdict

from sandboxes.egress import Attempt
from tasks.models import EventKind, Run, RunStatus, Turn
from tasks.running import backends, events

logger = logging.getLogger(__name__)


def record(key: str, attempt: Attempt) -> None:
    """Store one attempt (or several like ones, gathered) of the sandbox with this key; strays are only logged."""
    installation, run_id, generation = key.split(":")
    is_ours = installation == backends.installation()
    if not is_ours or not Run.objects.filter(pk=int(run_id), generation=int(generation)).exists():
        logger.info("A sandbox that no run owns (%s) tried %s:%s.", key, attempt.host, attempt.port)
        return
    turn = Turn.objects.filter(run=int(run_id)).exclude(status=RunStatus.QUEUED).order_by("-number").first()
    data = {"stream": "network", "text": sentence(attempt) + "\n", "attempt": asdict(attempt)}
    events.append(int(run_id), EventKind.LOG, data, turn_id=turn.pk if turn else None)


def sentence(attempt: Attempt) -> str:
    what = f"{attempt.method} {attempt.host}:{attempt.port}"
    times = f" ({attempt.count} times)" if attempt.count > 1 else ""
    if not attempt.is_allowed:
        return f"Refused: {what}{times}. {attempt.reason}"
    traffic = f"{attempt.bytes_up:,} bytes up, {attempt.bytes_down:,} down in {attempt.seconds:.1f} s"
    return f"{what}{times}: {attempt.reason or traffic}"
