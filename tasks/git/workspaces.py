"""Names of the branches that runs work on, and clean repositories of ours on the host."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from tasks.git.commands import git
from tasks.git.sources import valid_branch

_MAX_SLUG = 40


def checkout_branch_name(task_id: int | str, slug: str, agent: str, attempt: int) -> str:
    """`asynccode/<task>-<slug>-<agent>-<attempt>`, valid whatever the slug and the agent's name are made of."""
    parts = (_plain(str(task_id)), _plain(slug)[:_MAX_SLUG].strip("-"), _plain(agent)[:_MAX_SLUG].strip("-"), str(attempt))
    return valid_branch("asynccode/" + "-".join(part for part in parts if part))


def _plain(text: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")


APPLY = ("apply", "--cached", "--binary", "--whitespace=nowarn", "-")  # a patch, to an index


def borrow(mirror: Path, commit: str, target: Path, *, timeout: float = 600.0) -> None:
    """A clean repository of ours, new and bare, that borrows the mirror's objects; its index is the commit's tree.

    It has no work tree, no remote and no hooks: it is the place where the host applies and commits patches. So nothing
    is checked out, and no filter or line ending is between what a patch says and what is committed.
    """
    make_borrowing(mirror, target, "sha1" if len(commit) == 40 else "sha256", timeout=timeout)
    git(["read-tree", commit], git_dir=target, timeout=timeout)


def make_borrowing(mirror: Path, target: Path, object_format: str, *, timeout: float) -> None:
    """As `borrow`, without an index."""
    git(["init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", str(target)], timeout=timeout)
    (target / "objects" / "info").mkdir(exist_ok=True)
    (target / "objects" / "info" / "alternates").write_text(f"{mirror.resolve() / 'objects'}\n")
