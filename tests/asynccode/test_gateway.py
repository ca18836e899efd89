"""The gateway's process as sandboxes on other machines see it: a turn's token in, the model's answer out."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from tasks.models import Credential, ModelCall, Repo, Run, RunStatus, Task, Turn, User
from tasks.running import model_access

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "sk-the-real-key-0123456789"
ASK = {"model": "claude-parrot", "max_tokens": 10, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
STARTED = {"type": "message_start", "message": {"model": "claude-parrot", "usage": {"input_tokens": 7, "output_tokens": 1}}}
ENDED = [{"type": "message_delta", "usage": {"output_tokens": 5}}, {"type": "message_stop"}]


def sse(*messages: dict[str, object]) -> bytes:
    return b"".join(f"event: {message['type']}\ndata: {json.dumps(message)}\n\n".encode() for message in messages)


class Model:
    """A provider that says how it begins, and goes on when it may."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        self.goes_on = threading.Event()
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                model.keys.append(self.headers["x-api-key"])
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                self.wfile.write(sse(STARTED))
                model.goes_on.wait(20)
                self.wfile.write(sse(*ENDED))

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.goes_on.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def model() -> Iterator[Model]:
    with closing(Model()) as it:
        yield it


@pytest.fixture
def turn(model: Model) -> Turn:
    """At work in a sandbox that is not here."""
    alice = User.objects.create_user("alice")
    credential = Credential(owner=alice, provider="anthropic", base_url=f"http://127.0.0.1:{model.port}")
    credential.secret = SECRET
    credential.save()
    repo = Repo.objects.create(owner=alice, source="https://example.org/r", name="r", default_branch="main", mirrored_at=timezone.now())
    task = Task.objects.create(owner=alice, repo=repo, title="x", prompt="x", base_branch="main", base_commit="a" * 40)
    run = Run.objects.create(task=task, agent="claude", attempt=1, backend="e2b", branch="b", status=RunStatus.RUNNING)
    return Turn.objects.create(run=run, number=1, prompt="x", author=alice, status=RunStatus.RUNNING)


class Gateway:
    def __init__(self, folder: Path, model: Model) -> None:
        with socket.socket() as it:
            it.bind(("127.0.0.1", 0))
            self.port = it.getsockname()[1]
        self.log = folder / "log"
        url = os.environ["DATABASE_URL"]
        self.environment = os.environ | {
            "DATABASE_URL": re.sub(r"/[^/?]*\?", f"/{connection.settings_dict['NAME']}?", url),
            "ALLOW_PRIVATE_HOSTS": f"127.0.0.1:{model.port}",
            "GATEWAY_PUBLIC_URL": "https://models.example.org",
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        with self.log.open("ab") as log:
            argv = [sys.executable, "manage.py", "gateway"]
            self.process = subprocess.Popen(
                argv, cwd=settings.BASE_DIR, env=self.environment | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
        self.process = None

    def close(self) -> None:
        self.stop(signal.SIGKILL)

    def client(self) -> httpx.Client:
        """When it is up."""
        client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

        def is_up() -> bool:
            try:
                return client.get("/healthz").status_code == 200
            except httpx.ConnectError:
                return False

        wait_for(is_up, self.said)
        return client

    def said(self) -> str:
        return self.log.read_text()


def wait_for(condition: Callable[[], object], said: Callable[[], str] = str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, said()
        time.sleep(0.02)


@pytest.fixture
def gateway(tmp_path: Path, model: Model) -> Iterator[Gateway]:
    with closing(Gateway(tmp_path, model)) as it:
        yield it


def test_a_turns_token_asks_the_model_until_its_turn_is_over(gateway: Gateway, model: Model, turn: Turn) -> None:
    gateway.start()
    shown = {"x-api-key": model_access.token(turn, turn.run.generation)}
    with closing(gateway.client()) as client:
        with client.stream("POST", "/anthropic/v1/messages", json=ASK, headers=shown) as answer:
            pieces = answer.iter_bytes()
            assert next(pieces) == sse(STARTED)  # before the model goes on: nothing is held back
            model.goes_on.set()
            assert b"".join(pieces) == sse(*ENDED)
        call = ModelCall.objects.get(turn=turn)
        assert (call.input_tokens, call.output_tokens, call.is_whole) == (7, 5, True)

        gateway.stop()
        gateway.start()
    with closing(gateway.client()) as client:  # a new gateway knows it too
        assert client.post("/anthropic/v1/messages", json=ASK, headers=shown).status_code == 200
        assert model.keys == [SECRET, SECRET]
        Turn.objects.update(status=RunStatus.SUCCEEDED)
        refused = client.post("/anthropic/v1/messages", json=ASK, headers=shown)
        assert (refused.status_code, refused.json()["error"]["message"]) == (403, "asynccode: This turn is over.")
        guess = {"x-api-key": f"act-{turn.pk}-{turn.run.generation}-{'0' * 64}"}
        assert client.post("/anthropic/v1/messages", json=ASK, headers=guess).status_code == 401
    assert len(model.keys) == 2
    said = gateway.said()
    assert not any(word in said for word in (SECRET, shown["x-api-key"], guess["x-api-key"]))


def test_a_local_sandboxs_token_is_good_at_its_socket_only(gateway: Gateway, model: Model, turn: Turn) -> None:
    Run.objects.update(backend="local")
    gateway.start()
    with closing(gateway.client()) as client:
        shown = {"x-api-key": model_access.token(turn, turn.run.generation)}
        assert client.post("/anthropic/v1/messages", json=ASK, headers=shown).status_code == 401
    assert model.keys == []


def test_what_cannot_be_listened_at_is_said_and_the_gateway_goes_on(gateway: Gateway) -> None:
    gateway.start(GATEWAY_LISTEN="8010")
    wait_for(lambda: "GATEWAY_LISTEN is “8010”, and should look like 127.0.0.1:8010." in gateway.said(), gateway.said)
    assert gateway.process is not None
    assert gateway.process.poll() is None


def test_without_a_public_address_nothing_is_listened_at(gateway: Gateway, model: Model, turn: Turn) -> None:
    gateway.start(GATEWAY_PUBLIC_URL="")
    root = Path(os.environ["ASYNCCODE_DATA"]) / "sandboxes" / "a-box"
    (root / "gateway").mkdir(parents=True, exist_ok=True)
    try:
        wait_for((root / "gateway" / "gateway.sock").exists, gateway.said)
        with socket.socket() as it:
            assert it.connect_ex(("127.0.0.1", gateway.port)) != 0
    finally:
        gateway.stop()
        (root / "gateway" / "gateway.sock").unlink()
        (root / "gateway").rmdir()
        root.rmdir()
