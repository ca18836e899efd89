"""Attachments on their way into a sandbox: outside of the workspace, so that they never become part of a patch."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import PurePath

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from sandboxes.base import HOME, Sandbox
from tasks.models import Attachment, Turn

FOLDER = f"{HOME}/attachments"
DRAFTS_KEPT = timedelta(hours=24)
_AT_ONCE = 500


def numbered(name: str, taken: Collection[str]) -> str:
    """The name, or the name with the first number from 2 on that is free: "notes 2.txt"."""
    stem, ending = PurePath(name).stem, PurePath(name).suffix
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{stem} {number}{ending}"
    return free


def paths(turn: Turn) -> dict[int, dict[str, int]]:
    """Turn number → path in the sandbox → attachment's id, of this turn (always there) and those before it.

    The same rows always give the same paths. Turns that were withdrawn before they began do not count.
    """
    has_begun = Q(turn=turn) | Q(turn__run=turn.run_id, turn__number__lt=turn.number, turn__started_at__isnull=False)
    given = (
        Turn.attachments.through.objects.filter(has_begun)
        .order_by("turn__number", "attachment_id")
        .values_list("turn__number", "attachment_id", "attachment__name")
    )
    found: dict[int, dict[str, int]] = {turn.number: {}}
    places: dict[int, str] = {}
    for number, pk, name in given:
        if pk not in places:
            places[pk] = numbered(name, {path.rpartition("/")[2] for path in places.values()})
            places[pk] = f"{FOLDER}/{places[pk]}"
        found.setdefault(number, {})[places[pk]] = pk
    return found


async def put(box: Sandbox, files: dict[str, int]) -> None:
    """Put attachments (path → id) into a sandbox, one in memory at a time; a second time is fine."""
    for path, pk in files.items():
        attachment = await Attachment.objects.only("content").aget(pk=pk)
        await box.put(path, bytes(attachment.content))


def forget_drafts() -> None:
    """Delete files that no turn has got within a day; a bounded number at a time."""
    with transaction.atomic():
        old = Attachment.objects.filter(turns=None, created_at__lt=Now() - DRAFTS_KEPT).order_by("pk")
        locked = list(old.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True)[:_AT_ONCE])
        # Asked again under the lock, which giving them to a turn takes too.
        Attachment.objects.filter(pk__in=locked, turns=None).only("pk").delete()
