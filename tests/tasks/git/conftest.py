"""Real repositories, and a real HTTP git server (git http-backend) on loopback."""

import base64
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tasks.git.sources import Source, parse_source

IDENTITY = {
    f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "Alice"), ("EMAIL", "alice@example.org"))
}


class Origin:
    """A repository of alice's, with a work tree."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", *options)

    def git(self, *args: str | bytes, input: bytes | None = None) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **IDENTITY}
        done = subprocess.run(["git", *args], cwd=self.folder, env=environment, input=input, capture_output=True, check=True)
        return done.stdout.decode(errors="surrogateescape").strip()

    def commit(self, text: str = "hello", *, name: str = "file.txt", amend: bool = False) -> str:
        (self.folder / name).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", text[:50], *(["--amend"] if amend else []))
        return self.git("rev-parse", "HEAD")

    @property
    def source(self) -> Source:
        return parse_source(str(self.folder), allow_local=True, roots=[self.folder.parent])


class GitServer(ThreadingHTTPServer):
    """Serves the repositories below `root`, and takes pushes. `rules` (path prefix → what to do with handler and body) stand
    before that; one that returns False leaves the request to git. With a `token` everybody has to sign in with it."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.rules: dict[str, Callable[[BaseHTTPRequestHandler, bytes], bool]] = {}
        self.requests: list[str] = []
        self.token = ""
        self.address = f"127.0.0.1:{self.server_port}"

    @property
    def pushes(self) -> int:
        return sum(request.endswith("/git-receive-pack") for request in self.requests)

    def source(self, path: str, host: str = "127.0.0.1") -> Source:
        allowed = f"{host}:{self.server_port}"
        return parse_source(f"http://{allowed}/{path}", allow_local=False, allow_private=frozenset({allowed}))


class _Handler(BaseHTTPRequestHandler):
    server: GitServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.headers['Host']}{self.path}")
        body = self._body()
        for prefix, rule in self.server.rules.items():
            if self.path.startswith(prefix) and rule(self, body):
                return
        self.git(body)

    def git(self, body: bytes) -> None:
        signed_in = "Basic " + base64.b64encode(f"x-access-token:{self.server.token}".encode()).decode()
        if self.server.token and self.headers["Authorization"] != signed_in:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "http.receivepack",
            "GIT_CONFIG_VALUE_1": "true",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815

    def _body(self) -> bytes:
        """git sends what is over a megabyte in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origins" / "shop")
    origin.commit("first")
    return origin


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    server = GitServer(tmp_path / "origins")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirrors" / "7.git"


@pytest.fixture
def make_origin(tmp_path: Path) -> Callable[..., Origin]:
    return lambda name, *options: Origin(tmp_path / "origins" / name, *options)


@pytest.fixture
def wait_for() -> Callable[..., None]:
    def wait(condition: Callable[[], object], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to be in time"
            time.sleep(0.01)

    return wait
