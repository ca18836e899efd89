"""Names of the branches that runs work on, and clean checkouts of ours on the host."""

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


def clone_at(mirror: Path, commit: str, target: Path, *, timeout: float = 600.0) -> None:
    """A clean checkout of a commit, detached, in a new folder of ours that borrows the mirror's objects.

    It has no remote and no hooks, and runs no filters: it is the place where the host applies and commits patches.
    """
    target.mkdir(mode=0o700)
    git_dir = target / ".git"
    object_format = "sha1" if len(commit) == 40 else "sha256"
    git(["init", "--quiet", "--template=", f"--object-format={object_format}", str(target)], timeout=timeout)
    (git_dir / "objects" / "info").mkdir(exist_ok=True)
    (git_dir / "objects" / "info" / "alternates").write_text(f"{mirror.resolve() / 'objects'}\n")
    git(["checkout", "--quiet", "--detach", commit], git_dir=git_dir, cwd=target, timeout=timeout)
