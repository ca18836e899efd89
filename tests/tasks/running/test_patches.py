"""Reading git's patches: files, states, counts, odd names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.running.patches import ChangedFile, changed_files

Git = Callable[..., bytes]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path)}

    def run(*args: str) -> bytes:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(["git", *who, *args], cwd=tmp_path, env=env, check=True, capture_output=True).stdout

    run("init", "-q")
    return run


def patch_of(git: Git) -> list[ChangedFile]:
    git("add", "-A")
    return changed_files(git("diff", "--cached", "--binary", "--full-index", "-M", "HEAD"))


def test_states_and_counts(git: Git, tmp_path: Path) -> None:
    for name, text in {"edit": "a\nb\nc\n", "gone": "x\n", "old name": "1\n2\n3\n4\n5\n", "mode": "m\n"}.items():
        (tmp_path / name).write_text(text)
    git("add", "-A")
    git("commit", "-qm", "base")
    (tmp_path / "edit").write_text("a\nB\nc\nd\n")
    (tmp_path / "gone").unlink()
    (tmp_path / "old name").rename(tmp_path / "new name")
    (tmp_path / "mode").chmod(0o755)
    (tmp_path / "new").write_text("n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    found = {file.path: (file.state, file.additions, file.deletions, file.is_binary) for file in patch_of(git)}
    assert found == {
        "edit": ("modified", 2, 1, False),
        "gone": ("deleted", 0, 1, False),
        "new name": ("renamed", 0, 0, False),
        "mode": ("mode", 0, 0, False),
        "new": ("added", 1, 0, False),
        "empty": ("added", 0, 0, False),
        "binary": ("added", 0, 0, True),
    }


@pytest.mark.parametrize(
    "name", [b"with space", b"t\tab", b'quo"te', b"back\\slash", b"new\nline", "ümläut".encode(), b"b/a b/x", b" b", b"a b/a"]
)
def test_odd_names(git: Git, tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    (tmp_path / "first").write_text("x")
    git("add", "-A")
    git("commit", "-qm", "base")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write("1\n")
    assert [(f.path, f.old_path) for f in patch_of(git)] == [(name.decode(), name.decode())]


def test_a_name_that_is_no_utf8_is_shown_with_a_mark(git: Git, tmp_path: Path) -> None:
    git("commit", "-qm", "base", "--allow-empty")
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9"), "w") as file:
        file.write("1\n")
    assert [f.path for f in patch_of(git)] == ["caf\ufffd"]


def test_content_that_looks_like_a_patch_is_content(git: Git, tmp_path: Path) -> None:
    git("commit", "-qm", "base", "--allow-empty")
    text = "diff --git a/evil b/evil\nnew file mode 100644\n--- /dev/null\n+++ b/evil\n@@ -0,0 +1 @@\n+boo\n"
    (tmp_path / "looks.patch").write_text(text)
    assert [(f.path, f.additions) for f in patch_of(git)] == [("looks.patch", 6)]
    git("commit", "-qm", "more")
    (tmp_path / "looks.patch").unlink()
    assert [(f.path, f.deletions) for f in patch_of(git)] == [("looks.patch", 6)]


def test_an_empty_patch_has_no_files() -> None:
    assert changed_files(b"") == []
