"""What a run leaves in its folder of artifacts: fetched at the end of each turn, kept beside the patch and never a part of it."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from asgiref.sync import async_to_sync
from django.conf import settings

from sandboxes.base import ARTIFACTS, Collected
from sandboxes.errors import SandboxError, SandboxGone
from tasks.errors import AppError
from tasks.git import listing
from tasks.models import Artifact, EventKind, Sandbox, Turn
from tasks.models.artifact import LONGEST_PATH
from tasks.running import backends, events
from tasks.running.redact import Redactor

logger = logging.getLogger(__name__)

_MB = 2**20
_MOST_NAMED = 101  # of those left out; a supervisor of ours names no more
_MOST_BYTES = 2**62  # that a row can tell of


@dataclass(frozen=True)
class Found:
    """What is new, and what is not taken, by path: texts that the database can hold."""

    files: dict[str, bytes]
    left_out: dict[str, tuple[int, str]]  # bytes, why


def collect(turn: Turn) -> Found | None:
    """What a turn that is over left, but for what is kept already; None when its sandbox does not say.

    It is an extra: whatever is the matter with it is logged, and the turn ends all the same.
    """
    if turn.run.task.is_trial:
        return None
    try:
        told = _fetch(turn)
        found = Found(
            {_shown(path): content for path, content in told.files[: settings.MAX_ARTIFACTS + _MOST_NAMED]},
            {
                _shown(each["path"]): (min(max(int(each["bytes"]), 0), _MOST_BYTES), _shown(each["reason"])[:40])
                for each in told.left_out[:_MOST_NAMED]
            },
        )
        return Found({}, {}) if (found.files or found.left_out) and _is_the_repositorys(turn) else found
    except SandboxGone:
        return None
    except SandboxError as error:
        logger.warning("The artifacts of %s were not fetched: %s", turn, error)
    except Exception:  # what is read is the agent's, and may be made to break us
        logger.exception("The artifacts of %s were not fetched.", turn)
    return None


def _fetch(turn: Turn) -> Collected:
    row = Sandbox.objects.get(run=turn.run_id, generation=turn.run.generation)
    known = dict(Artifact.objects.filter(run=turn.run_id).exclude(sha256="").values_list("path", "sha256"))

    async def fetch() -> Collected:
        box = await backends.backend(row.backend).connect(row.ref)
        return await box.collect(
            ARTIFACTS,
            known=known,
            most_files=settings.MAX_ARTIFACTS,
            most_file_bytes=settings.MAX_ARTIFACT_MB * _MB,
            most_bytes=settings.MAX_ARTIFACTS_MB * _MB,
        )

    return async_to_sync(fetch)()


def _shown(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")[:LONGEST_PATH]


def _is_the_repositorys(turn: Turn) -> bool:
    """Whether the base commit has files in such a folder: then all in it is a part of the patch, as anywhere else."""
    task = turn.run.task
    try:
        node = listing.node(task.repo.mirror_path, task.base_commit, ARTIFACTS)
    except AppError:  # no mirror at this host: better kept twice than not at all
        return False
    return node is not None and node.is_folder


def store(turn: Turn, found: Found, secrets: Redactor) -> None:
    """Keep what a turn left, in place of what had the same paths; part of a transaction that holds the run's row. What goes over the
    bounds of a run is named instead, in place of what was named before."""
    kept = {row.path: row for row in Artifact.objects.filter(run=turn.run_id).exclude(sha256="").defer("content")}
    Artifact.objects.filter(run=turn.run_id, sha256="").delete()
    Artifact.objects.filter(run=turn.run_id).exclude(left_out="").update(left_out="")
    total, taken, left_out = sum(row.size for row in kept.values()), 0, dict(found.left_out)
    for path, content in sorted(found.files.items()):
        before = kept.get(path)
        digest = hashlib.sha256(content).hexdigest()
        if before is not None and before.sha256 == digest:
            continue
        total += len(content) - (before.size if before else 0)
        if why := _refused(len(content), total, len(kept) + (before is None)):
            total -= len(content) - (before.size if before else 0)
            left_out[path] = len(content), why
            continue
        values = {"turn": turn, "content": content, "size": len(content), "sha256": digest, "secrets_found": secrets.found_in(content)}
        kept[path], _ = Artifact.objects.update_or_create(run_id=turn.run_id, path=path, defaults=values)
        taken += 1
    for path, (size, why) in left_out.items():
        nothing = {"turn": turn, "content": b"", "size": size, "left_out": why}
        Artifact.objects.update_or_create(run_id=turn.run_id, path=path, defaults={"left_out": why}, create_defaults=nothing)
    if taken or left_out:
        said = {"artifacts": taken, "left_out": sorted(left_out)[:20]}
        events.append(turn.run_id, EventKind.STATUS, said, turn_id=turn.pk)


def _refused(size: int, total: int, count: int) -> str:
    """Why a file cannot be kept with which there would be so many bytes and files of the run; "" when it can."""
    if size > settings.MAX_ARTIFACT_MB * _MB:
        return "size"
    if count > settings.MAX_ARTIFACTS:
        return "count"
    return "total" if total > settings.MAX_ARTIFACTS_MB * _MB else ""
