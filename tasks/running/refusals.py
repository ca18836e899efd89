"""A backend that does not take our account, or gives no room just now: what becomes of the run, and what is said."""

from __future__ import annotations

import re

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from sandboxes.errors import AccountRefused, SandboxLimited
from tasks.models import EventKind, Run, RunStatus, Sandbox, SandboxStatus, Turn
from tasks.running import capacity, events, lifecycle, nudge

_WORDS = re.compile(r"E2B refused the account \((.*?)\)\. Look at E2B_API_KEY\.", re.DOTALL)


def wait_for_room(run: Run, row: Sandbox, fence: Q, error: SandboxLimited) -> None:
    """Back into the queue, where it was; nothing was made, so it is the same generation. All others wait too."""
    until = capacity.close(row.backend, error)
    later = {"not_before": until} if row.ref else {}  # a sandbox that is to wake up needs no new one, but waits as well
    if lifecycle.requeue(run.pk, source=[RunStatus.STARTING], fence=fence, queued_at=run.queued_at, **later):
        not_woken(row)


def account_refused(run: Run, turn: Turn, row: Sandbox, fence: Q, error: AccountRefused) -> None:
    """A run without a sandbox goes on here, if the settings say so; else it ends. One with a sandbox has its work there."""
    if not row.ref and settings.SANDBOX_FALLBACK == "local":
        _fall_back(run, turn, row, fence, error)
        return
    said = said_of(error, has_sandbox=bool(row.ref))
    if lifecycle.finish(run.pk, source=[RunStatus.STARTING], to=RunStatus.ERRORED, fence=fence, error=said):
        not_woken(row)


def not_woken(row: Sandbox) -> None:
    """A sandbox that was about to wake up sleeps on."""
    Sandbox.objects.filter(pk=row.pk, status=SandboxStatus.LIVE).exclude(ref="").update(status=SandboxStatus.PAUSED)


def _fall_back(run: Run, turn: Turn, row: Sandbox, fence: Q, error: AccountRefused) -> None:
    notice = f"E2B refused the account ({_words(error)}), so this run is on this machine."
    with transaction.atomic():
        if not lifecycle.requeue(run.pk, source=[RunStatus.STARTING], fence=fence, queued_at=run.queued_at, backend="local"):
            return
        Sandbox.objects.filter(pk=row.pk, ref="").update(backend="local", host=settings.HOST_NAME, notice=notice, prepared=None)
        events.append(run.pk, EventKind.STATUS, {"notice": notice}, turn_id=turn.pk)
        nudge.dispatch()


def said_of(error: AccountRefused, *, has_sandbox: bool) -> str:
    refused = f"E2B refused the account ({_words(error)})."
    if has_sandbox:
        return f"{refused} The run's sandbox is there: set E2B_API_KEY right and follow up, or retry for a new attempt."
    return f"{refused} Set E2B_API_KEY right, or SANDBOX_FALLBACK=local to use this machine, and retry."


def _words(error: AccountRefused) -> str:
    """E2B's own."""
    found = _WORDS.fullmatch(str(error))
    return found[1] if found else str(error).rstrip(".")
