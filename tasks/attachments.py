"""The verbs of files that go with prompts: stored at once, given to turns when the prompt is sent, forgotten when it never is."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Sum
from django.template.defaultfilters import filesizeformat

from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import Attachment, Turn, User
from tasks.running.attachments import numbered

MOST_FILES = 10  # of one prompt
MOST_BYTES = 10 * 2**20  # of one file
MOST_TOGETHER = 25 * 2**20  # bytes of the files of one prompt
MOST_DRAFTED = 250 * 2**20  # bytes of a user's files that no prompt has yet
MOST_NAME = 120  # characters
MOST_NAME_BYTES = 200  # a folder takes 255, and a number may follow
GONE = "An attached file is not there any more: files of a prompt that is not sent are kept for a day. Attach it again."

# Files that browsers show as pictures and nothing else, by what they begin with.
_PICTURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8"}
PICTURES = frozenset({*_PICTURES, "image/webp"})
UNKNOWN = "application/octet-stream"

_PLACES = re.compile(r"[/\\]")


def store(*, by: User, files: Sequence[UploadedFile[bytes]]) -> list[Attachment]:
    """Store the files of one prompt, all or none, as a draft's; InvalidInput ("attachments") says what is wrong with which."""
    _check_together(len(files), sum(file.size or 0 for file in files))
    names: set[str] = set()
    found = []
    for file in files:
        name = numbered(clean_name(file.name or ""), names)
        names.add(name)
        found.append(Attachment(owner=by, name=name, size=file.size or 0))
        _check_size(found[-1])
    drafted = Attachment.objects.visible_to(by).filter(turns=None).aggregate(Sum("size"))["size__sum"] or 0
    if drafted + sum(attachment.size for attachment in found) > MOST_DRAFTED:
        raise _refused(f"Files of yours that no prompt has yet take {filesizeformat(drafted)}. Remove some, or start what they are for.")
    for attachment, file in zip(found, files, strict=True):
        file.seek(0)
        attachment.content = file.read()
        attachment.content_type = type_of(attachment.name, attachment.content)
    return Attachment.objects.bulk_create(found)


def chosen(*, by: User, ids: Iterable[str | int]) -> list[Attachment]:
    """The user's attachments of these ids, without their contents, in the order they were stored; others are left out (GONE)."""
    wanted = {int(pk) for pk in ids if str(pk).isascii() and str(pk).isdecimal() and len(str(pk)) <= 18}
    return list(Attachment.objects.visible_to(by).defer("content").filter(pk__in=wanted))


def wanted(*, by: User, ids: Collection[int]) -> list[Attachment]:
    """The same, but InvalidInput if one of them is not there."""
    found = chosen(by=by, ids=ids)
    if len(found) < len(set(ids)):
        raise _refused(GONE)
    return found


def give(*, by: User, attachments: Sequence[Attachment], turns: Sequence[Turn]) -> None:
    """Let each of these new turns have these attachments; part of the caller's transaction."""
    if not attachments:
        return
    _check_together(len(attachments), sum(attachment.size for attachment in attachments))
    if any(attachment.owner_id != by.pk for attachment in attachments):
        raise NotAllowed("This file belongs to somebody else.")
    # Locked, so that none of them is removed as a draft's meanwhile.
    kept = Attachment.objects.select_for_update().filter(pk__in=[attachment.pk for attachment in attachments]).values_list("pk", flat=True)
    if len(list(kept)) != len(attachments):
        raise _refused(GONE)
    through = Turn.attachments.through
    through.objects.bulk_create([through(turn_id=turn.pk, attachment_id=pk) for turn in turns for pk in kept])


def give_again(*, earlier: Turn, turn: Turn) -> None:
    """Let a new turn have what an earlier one has."""
    turn.attachments.set(earlier.attachments.values_list("pk", flat=True))


def remove(*, by: User, attachment: Attachment) -> None:
    """Remove a draft's file. What a turn has stays: it is part of the history."""
    if attachment.owner_id != by.pk:
        raise NotAllowed("This file belongs to somebody else.")
    with transaction.atomic():
        locked = Attachment.objects.select_for_update().defer("content").filter(pk=attachment.pk).first()
        if locked is not None and locked.turns.exists():
            raise Conflict("This file went with a prompt that was sent, and stays with it.")
        if locked is not None:
            locked.delete()


def clean_name(raw: str) -> str:
    """A name that is safe as a file's in any folder: one part, no control or direction characters, no leading dot or dash."""
    last = _PLACES.split(raw)[-1]
    shown = "".join(" " if char.isspace() else char for char in unicodedata.normalize("NFC", last))
    shown = "".join(char for char in shown if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
    name = " ".join(shown.split()).lstrip(".- ").rstrip(". ")
    if not name:
        raise _refused("A file without a name cannot be attached. Give it one first.")
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending) > 16:
        stem, dot, ending = name, "", ""
    while len(stem) + len(dot + ending) > MOST_NAME or len((stem + dot + ending).encode()) > MOST_NAME_BYTES:
        stem = stem[:-1]
    return stem.rstrip() + dot + ending


def type_of(name: str, content: bytes) -> str:
    """The media type by what the file is: a picture only if it begins as one does, else what its name suggests."""
    for kind, beginning in _PICTURES.items():
        if content.startswith(beginning):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    guessed = mimetypes.guess_type(name)[0] or UNKNOWN
    return guessed if guessed not in PICTURES and len(guessed) <= 100 else UNKNOWN


def _check_size(attachment: Attachment) -> None:
    if not attachment.size:
        raise _refused(f"{attachment.name} is empty.")
    if attachment.size > MOST_BYTES:
        raise _refused(f"{attachment.name} has {filesizeformat(attachment.size)}; {filesizeformat(MOST_BYTES)} are the most for one file.")


def _check_together(count: int, size: int) -> None:
    if count > MOST_FILES:
        raise _refused(f"These are {count} files; {MOST_FILES} are the most for one prompt. Put them into an archive.")
    if size > MOST_TOGETHER and count > 1:
        raise _refused(f"These files have {filesizeformat(size)} together; {filesizeformat(MOST_TOGETHER)} are the most for one prompt.")


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message.replace("\xa0", " "), field="attachments")
