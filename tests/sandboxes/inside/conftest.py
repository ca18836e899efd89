"""Supervisors for the tests that drive them, each stopped at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxes import zipapp
from tests.sandboxes.inside._houses import House, git


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "supervisor.pyz"
    path.write_bytes(zipapp.build())
    return path


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bare mirror and the commit in it that turns start from."""
    folder = tmp_path_factory.mktemp("repository")
    source = folder / "source"
    source.mkdir()
    git(source, "init", "-q", "-b", "main")
    (source / "README").write_text("Hello\n")
    git(source, "add", "README")
    git(source, "commit", "-q", "-m", "First")
    git(folder, "clone", "-q", "--bare", "source", "mirror.git")
    return folder / "mirror.git", git(source, "rev-parse", "HEAD")


@pytest.fixture
def make_house(tmp_path: Path, app: Path, repository: tuple[Path, str]) -> Iterator[Callable[..., House]]:
    """Makes supervisors that are not started yet."""
    made: list[House] = []

    def make(mode: str = "state") -> House:
        folder = tmp_path / f"house{len(made)}"
        folder.mkdir()
        made.append(House(folder, app, *repository, mode=mode))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    """A supervisor that is running, in a sandbox of somebody else's."""
    return make_house().start()


@pytest.fixture(params=["state", "init"])
def each_house(request: pytest.FixtureRequest, make_house: Callable[..., House]) -> House:
    """A running supervisor: once as an ordinary process, once as PID 1."""
    return make_house(request.param).start()
