"""Which files of a commit say what a setup script installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.errors import RepoUnavailable
from tasks.git import mirrors
from tasks.git.dependencies import fingerprint

SCRIPT = "bash ./scripts/setup.sh\npip install -r 'deps/dev.in'\n"


def printed(origin: Any, mirror: Path, name: str, text: str, script: str = SCRIPT) -> str:
    """The fingerprint of the commit that writes `text` into the file of this name."""
    (origin.folder / name).parent.mkdir(parents=True, exist_ok=True)
    commit = origin.commit(text, name=name)
    mirrors.ensure(mirror, origin.source, timeout=20)
    return fingerprint(mirror, commit, script)


@pytest.mark.parametrize(
    "name",
    [
        *("package-lock.json", "web/app/yarn.lock", "uv.lock", "requirements.txt", "requirements-dev.txt", "go.sum", "größe/Cargo.lock"),
        *("pom.xml", "build.gradle.kts", "src/App.csproj", ".python-version"),
    ],
)
def test_it_changes_with_a_lock_file_wherever_it_lies(origin: Any, mirror: Path, name: str) -> None:
    first = printed(origin, mirror, name, "1")
    assert printed(origin, mirror, name, "2") != first
    assert printed(origin, mirror, name, "1") == first


@pytest.mark.parametrize("name", ["src/main.py", "package-lock.json.md", "my-uv.lock", "requirements.txt/notes.md", "scripts/other.sh"])
def test_it_stays_whatever_else_changes(origin: Any, mirror: Path, name: str) -> None:
    assert printed(origin, mirror, name, "1") == printed(origin, mirror, name, "2")


@pytest.mark.parametrize("name", ["scripts/setup.sh", "deps/dev.in"])
def test_it_changes_with_a_file_that_the_script_names(origin: Any, mirror: Path, name: str) -> None:
    assert printed(origin, mirror, name, "1") != printed(origin, mirror, name, "2")


def test_a_lock_file_that_moves_or_goes_changes_it(origin: Any, mirror: Path) -> None:
    first = printed(origin, mirror, "uv.lock", "1")
    origin.git("mv", "uv.lock", "file.txt", "-f")
    assert printed(origin, mirror, "other.txt", "1") != first


def test_a_commit_that_is_not_there_says_so(origin: Any, mirror: Path) -> None:
    mirrors.ensure(mirror, origin.source, timeout=20)
    with pytest.raises(RepoUnavailable):
        fingerprint(mirror, "f" * 40, SCRIPT)
