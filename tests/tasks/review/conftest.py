"""A run whose patches come from a real repository."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.git import mirrors
from tasks.git.sources import parse_source
from tasks.models import Patch, PatchKind, Repo, Run, Task, Turn, User

_IDENTITY = {
    f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "Alice"), ("EMAIL", "alice@example.org"))
}


class Workshop:
    """alice's repository with a base commit, its mirror where the product has it, and a task on it."""

    def __init__(self, folder: Path, owner: User, make_task: Callable[..., Task]) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        self.repo = Repo.objects.create(owner=owner, source=str(folder), is_local=True, name="shop", default_branch="main")
        self.make_task = make_task

    def git(self, *args: str) -> bytes:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **_IDENTITY}
        return subprocess.run(["git", *args], cwd=self.folder, env=environment, capture_output=True, check=True).stdout

    def write(self, files: dict[str, bytes | None]) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)

    def base(self, files: dict[str, bytes | None]) -> Task:
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "base")
        source = parse_source(str(self.folder), allow_local=True, roots=[self.folder.parent])
        mirrors.ensure(self.mirror, source, timeout=30)
        commit = self.git("rev-parse", "HEAD").decode().strip()
        self.task = self.make_task(repo=self.repo, base_commit=commit)
        return self.task

    @property
    def mirror(self) -> Path:
        return self.repo.mirror_path

    def patch(self, turn: Turn, files: dict[str, bytes | None], kind: PatchKind = PatchKind.FINAL) -> Patch:
        """What a turn leaves when it makes these changes to what is there."""
        self.write(files)
        self.git("add", "-A")
        content = self.git("diff", "--cached", "--binary", "--full-index", "HEAD")
        made = {"run": turn.run, "content": content, "sha256": hashlib.sha256(content).hexdigest(), "tree": ""}
        patch, _ = Patch.objects.update_or_create(turn=turn, kind=kind, defaults=made)
        return patch

    def tree(self) -> str:
        return self.git("write-tree").decode().strip()


@pytest.fixture
def workshop(tmp_path: Path, alice: User, make_task: Callable[..., Task]) -> Workshop:
    return Workshop(tmp_path / "shop", alice, make_task)


@pytest.fixture
def first_turn(make_run: Callable[..., Run]) -> Callable[[Task], Turn]:
    return lambda task: make_run(task).turns.get()
