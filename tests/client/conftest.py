"""A product with a GitHub on loopback, and somebody at a terminal with a checkout of one of its repositories."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from asynccode.client.main import app
from tests.client.relay import Relay
from tests.client.terminal import Terminal
from tests.github.server import github_server
from tests.spine.product import BRISK, GIT, SOURCE, Product

_BEGIN = """
from tasks.models import Repo, User
from tasks.repositories import add_repo
from tasks.tokens import create_token
user = User.objects.get(is_staff=True)
repo = add_repo(by=user, source="{github}/alice/shop")
Repo.objects.filter(pk=repo.pk).update(network_hosts=["127.0.0.1:{witness}"], prepares=False)  # scripts may call the witness
for scope in ("write", "read"):
    print(create_token(user=user, name=scope, scope=scope, expires_in_days=7)[1])
"""


class World:
    """A running product, its GitHub, and two tokens of its operator."""

    def __init__(self, product: Product, github: str) -> None:
        self.product, self.github = product, github
        begin = _BEGIN.format(github=github, witness=product.witness.port)
        self.write, self.read = product.manage("shell", "-v", "0", "-c", begin).stdout.split()[-2:]

    @property
    def url(self) -> str:
        return self.product.url.rstrip("/")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with github_server() as github:
        github.add_user("alice", "token-of-alice")
        github.add_repo("alice/shop", {"a.txt": "one\ntwo\nthree\n", "b.txt": "b\n"})
        product = Product(**BRISK, GITHUB_URL=github.url, GITHUB_TOKEN="token-of-alice")
        try:
            product.environment["ALLOW_PRIVATE_HOSTS"] += f",{github.url.removeprefix('http://')}"
            product.start()
            yield World(product, github.url)
        finally:
            product.close()


class Desk:
    """Commands given in a folder, by somebody with a configuration of their own."""

    def __init__(self, folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.environment, self._monkeypatch = folder, environment, monkeypatch

    def __call__(self, *words: str, input: str | None = None) -> Result:
        """A command without a terminal."""
        self._monkeypatch.chdir(self.folder)
        return CliRunner().invoke(app, list(words), input=input, env={**self.environment})

    def ok(self, *words: str, input: str | None = None) -> str:
        done = self(*words, input=input)
        assert done.exit_code == 0, done.output
        return done.stdout

    def at_terminal(self, *words: str) -> Terminal:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TERM": "xterm-256color", "PAGER": "cat", **self.environment}
        return Terminal([sys.executable, "-m", "asynccode.client", *words], cwd=self.folder, environment=environment)

    def git(self, *words: str) -> str:
        return subprocess.run([*GIT, *words], cwd=self.folder, capture_output=True, text=True, check=True).stdout

    def submit(self, script: str, *words: str) -> list[int]:
        """The runs of a new task of the shell agent."""
        out = self.ok("submit", "-", "--agent", "shell", *words, input=script)
        return [int(number) for number in re.findall(r"^run (\d+):", out, re.MULTILINE)]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Somebody who has never signed in, in an empty folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Desk(folder, {"XDG_CONFIG_HOME": str(tmp_path / "config"), "ASYNCCODE_URL": "", "ASYNCCODE_TOKEN": ""}, monkeypatch)


@pytest.fixture
def desk(stranger: Desk, world: World) -> Desk:
    """Somebody who is signed in, in a checkout."""
    subprocess.run([*GIT, "clone", "-q", f"{world.github}/alice/shop", str(stranger.folder)], check=True)
    stranger.ok("login", "--token-stdin", world.url, input=world.write)
    return stranger


@pytest.fixture
def relay(world: World) -> Iterator[Relay]:
    with Relay(world.url) as relay:
        yield relay


@pytest.fixture
def behind(desk: Desk, relay: Relay, world: World) -> Desk:
    """The same, with a network in between that can be cut."""
    desk.ok("login", "--token-stdin", relay.url, input=world.write)
    return desk
