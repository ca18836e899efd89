"""Patches as they come from a sandbox: read for their files and counts, and stored."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass

from django.db import transaction
from django.utils import timezone

from sandboxes.base import FetchedPatch
from tasks.models import EventKind, Patch, PatchKind, Run, Turn
from tasks.running import events, nudge
from tasks.running.redact import Redactor


@dataclass
class ChangedFile:
    """One file of a patch. `state` is added, modified, deleted, renamed or mode; paths are shown with U+FFFD for what is no UTF-8."""

    path: str
    old_path: str
    state: str = "modified"
    additions: int = 0
    deletions: int = 0
    is_binary: bool = False


_EMPTY = hashlib.sha256(b"").hexdigest()
_ESCAPE = re.compile(rb'\\([abfnrtv"\\]|[0-7]{3})')
_NAMED = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b'"': b'"', b"\\": b"\\"}


def _unquote(name: bytes) -> bytes:
    """A path as git writes it: in double quotes with C escapes when it has unusual bytes."""
    if not name.startswith(b'"'):
        return name
    return _ESCAPE.sub(lambda m: _NAMED.get(m[1]) or bytes([int(m[1], 8)]), name[1:-1])


def _header_paths(rest: bytes) -> tuple[bytes, bytes]:
    """The two paths of a `diff --git` line; names that differ are told again by the lines that follow it."""
    if rest.startswith(b'"'):
        end = re.match(rb'"(?:[^"\\]|\\.)*"', rest)
        assert end is not None
        old, new = end[0], rest[end.end() + 1 :]
    elif rest.endswith(b'"'):
        old, new = rest[: rest.index(b' "')], rest[rest.index(b' "') + 1 :]
    else:  # both plain: for equal names the line is symmetrical
        middle = len(rest) // 2
        old, new = rest[:middle], rest[middle + 1 :]
    return _unquote(old)[2:], _unquote(new)[2:]


def changed_files(content: bytes) -> list[ChangedFile]:
    """The files of a `git diff --binary` patch, in its order. Hunk lengths are obeyed, so content that looks like a patch stays content."""
    files: list[ChangedFile] = []
    position, size = 0, len(content)
    old_left = new_left = 0
    while position < size:
        end = content.find(b"\n", position)
        end = size if end < 0 else end
        line = content[position:end]
        position = end + 1
        if old_left or new_left:
            mark = line[:1]
            if mark == b"+":
                files[-1].additions += 1
                new_left -= 1
            elif mark == b"-":
                files[-1].deletions += 1
                old_left -= 1
            elif mark != b"\\":
                old_left -= 1
                new_left -= 1
            continue
        if line.startswith(b"diff --git "):
            old, new = _header_paths(line[11:])
            files.append(ChangedFile(path=new.decode(errors="replace"), old_path=old.decode(errors="replace")))
        elif line.startswith(b"@@ "):
            old_left, new_left = (int(m[1] or 1) for m in re.finditer(rb"[-+]\d+(?:,(\d+))?", line[3 : line.index(b" @@", 3)]))
        elif files:
            _extended(files[-1], line)
    return files


def _extended(file: ChangedFile, line: bytes) -> None:
    """One extended header line."""
    if line.startswith(b"new file mode"):
        file.state = "added"
    elif line.startswith(b"deleted file mode"):
        file.state = "deleted"
    elif line.startswith(b"rename from "):
        file.state, file.old_path = "renamed", _unquote(line[12:]).decode(errors="replace")
    elif line.startswith(b"rename to "):
        file.path = _unquote(line[10:]).decode(errors="replace")
    elif line.startswith(b"old mode ") and file.state == "modified":
        file.state = "mode"
    elif line.startswith(b"index ") and file.state == "mode":
        file.state = "modified"
    elif line.startswith(b"GIT binary patch"):
        file.is_binary = True


def store(turn: Turn, kind: PatchKind, fetched: FetchedPatch, redactor: Redactor) -> Patch:
    """Keep a patch; a checkpoint replaces the one before, and a patch that is there already is left as it is."""
    assert hashlib.sha256(fetched.content).hexdigest() == fetched.sha256, "the patch was changed on its way"
    files = changed_files(fetched.content)
    with transaction.atomic():
        patch, _ = Patch.objects.update_or_create(
            turn=turn,
            kind=kind,
            defaults={
                "run_id": turn.run_id,
                "content": fetched.content,
                "sha256": fetched.sha256,
                "tree": "",
                "files": [asdict(file) for file in files],
                "additions": sum(file.additions for file in files),
                "deletions": sum(file.deletions for file in files),
                "left_out": fetched.left_out,
                "secrets_found": redactor.found_in(fetched.content),
                "created_at": timezone.now(),  # a checkpoint's, not that of the one before it
            },
        )
        events.append(
            turn.run_id,
            EventKind.STATUS,
            {
                "patch": kind,
                "files": len(files),
                "additions": patch.additions,
                "deletions": patch.deletions,
                "left_out": [entry["path"] for entry in fetched.left_out],
                "secrets_found": patch.secrets_found,
            },
            turn_id=turn.pk,
        )
        nudge.tell([nudge.user_group(turn.run.task.owner_id)])
    return patch


def after(run: Run, number: int) -> Patch | None:
    """What a run had changed when turn `number` was over (0: when it began): the newest patch of the turns until then, a final one
    before its checkpoints; of a branch that has none, what its parent had changed where it begins. Its content is read when used."""
    patch = Patch.objects.filter(run=run, turn__number__lte=number).order_by("-turn__number", "-kind").defer("content").first()
    if patch is None and run.parent and run.parent_turn is not None:
        return after(run.parent, run.parent_turn)
    return patch


def known(turn: Turn, sha256: str | None) -> FetchedPatch | None:
    """A turn's last patch, of which only the hash is left, if it is here all the same: it is the checkpoint, or what the turn
    before had changed already, or empty."""
    before = after(turn.run, turn.number)
    if before is not None and before.sha256 == sha256:
        return FetchedPatch(bytes(before.content), before.sha256, before.left_out)
    return FetchedPatch(b"", _EMPTY, []) if sha256 == _EMPTY else None


def newest(run: Run) -> Patch | None:
    """What a fresh workspace of this run has to be brought to, or None when that is the base commit as it is."""
    last = Turn.objects.filter(run=run).order_by("-number").values_list("number", flat=True).first()
    patch = after(run, last or 0)
    return patch if patch and Patch.objects.filter(pk=patch.pk).exclude(content=b"").exists() else None
