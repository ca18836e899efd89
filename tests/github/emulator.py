"""The emulator of GitHub (npm `emulate`) in a process of its own, installed once like the agents' programs."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.install import Node, ensure_node
from tests.installed import FOLDER, installed

VERSION = "0.12.2"
BASE = "http://emulator.invalid"  # its own URLs begin so
_PROGRAM = Path(__file__).with_name("emulator.mjs")
# The way to the registry, and nothing else that is ours.
_PASSED_ON = re.compile(r"PATH|HOME|npm_config_\w+|(https?|all|no)_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


def install() -> tuple[Node, Path]:
    """Node, and the folder whose node_modules has the emulator. Asks the registry the first time only."""
    node = ensure_node(installed(), lambda percent, text: None)
    home = FOLDER / "emulate"
    home.mkdir(mode=0o755, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / VERSION).exists():
            new = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
            try:
                argv = [node.program, node.npm, "install", "--prefix", new, "--global=false", "--ignore-scripts", "--no-audit", "--no-fund"]
                argv += ["--no-update-notifier", "--no-package-lock", "--loglevel=error", f"emulate@{VERSION}"]
                env = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
                env |= {"PATH": f"{node.program.parent}:{os.environ['PATH']}"}
                subprocess.run(argv, env=env, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
                new.rename(home / VERSION)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    return node, home / VERSION


class Emulator:
    """Started by `start`, ended by `stop`, or by itself when we are gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> None:
        node, folder = install()
        for _ in range(5):  # somebody else may take the port before the emulator does
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._port = free.getsockname()[1]
            argv = [str(node.program), str(_PROGRAM), str(folder), str(self._port)]
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={})
            assert self._process.stdout is not None
            if self._process.stdout.readline() == b"ready\n":
                return
            self.stop()
        raise RuntimeError("The emulator of GitHub does not start.")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def ask(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """`target` is a path with its query, without /api/v3."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, target, body or None, headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def ask_as(self, login: str, method: str, target: str, body: Any = None) -> Any:
        """JSON in, JSON out, as this user; None is "no content"."""
        headers = {"Authorization": f"token as:{login}", "Content-Type": "application/json"}
        answer = self.ask(method, target, headers, b"" if body is None else json.dumps(body).encode())
        assert answer.status < 400, f"{method} {target}: {answer.status} {answer.body[:500]!r}"
        return answer.json if answer.body else None

    def tell(self, command: str, **arguments: Any) -> Any:
        """One of the commands of emulator.mjs."""
        return self.ask_as("admin", "POST", f"/_stand_in/{command}", arguments)
