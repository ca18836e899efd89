"""Log lines as JSON, each with what it is about; and what is told to Sentry."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from rq.job import Job

from agents.broker import Broker
from agents.grants import Call, Grant, Key, Refusal
from agents.upstream import NotAllowed, Upstream
from asynccode.logs import AsJson, HideLinks
from asynccode.management.commands import gateway
from asynccode.supervise import Log
from tasks.models import User
from tasks.running import jobs, log_context
from tasks.running.worker import Worker

logger = logging.getLogger("tasks.example")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged meanwhile, as JSON."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(AsJson())
    handler.addFilter(HideLinks())
    logging.getLogger().addHandler(handler)
    yield handler.stream
    logging.getLogger().removeHandler(handler)


def told(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_a_line_is_one_object_whatever_is_in_it() -> None:
    try:
        raise ValueError("a\nb\udc80")
    except ValueError:
        problem = sys.exc_info()
    record = logger.makeRecord(logger.name, logging.ERROR, "", 1, "It %s: /sign-in/link/secret/", ("failed\n\x1b[31m",), problem)
    HideLinks().filter(record)
    written = AsJson().format(record)
    assert len(written.encode().splitlines()) == 1
    line = json.loads(written)
    assert line["message"] == "It failed\n\x1b[31m: /sign-in/link/…/"
    assert (line["level"], line["logger"], line["process"]) == ("ERROR", "tasks.example", os.getpid())
    assert "Traceback" in line["error"]
    assert line["at"].endswith("+00:00")


def test_ids_stand_with_each_line_of_the_work_and_not_after_it(lines: io.StringIO) -> None:
    with log_context.about(run=3):
        log_context.add(task=2, turn=1)
        logger.warning("at work")
    logger.warning("over")
    at_work, over = told(lines)
    assert (at_work["run"], at_work["task"], at_work["turn"]) == (3, 2, 1)
    assert "run" not in over


@pytest.mark.django_db
@pytest.mark.usefixtures("services")
def test_a_job_is_about_the_run_of_its_arguments(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    import django_rq

    def finish_turn(run_id: int, generation: int) -> None:
        logger.warning("working")

    finish_turn.__module__, finish_turn.__qualname__ = jobs.__name__, "finish_turn"
    monkeypatch.setattr(jobs, "finish_turn", finish_turn)
    monkeypatch.setattr(logging.getLogger("rq.worker"), "propagate", True)  # RQ takes it away where a worker starts without handlers
    queue = django_rq.get_queue(settings.QUEUE_RUNS)
    for name, args in (("finish_turn", (7, 2)), ("no_such_job", (1,))):
        job = Job.create(f"tasks.running.jobs.{name}", args=args, connection=queue.connection, timeout=10)
        worker = Worker([queue], connection=queue.connection)
        worker.perform_job(job, queue, worker.prepare_execution(job))
        job.delete()
    worked = [line for line in told(lines) if line["logger"] == "tasks.example"]
    assert [(line["job"], line["run"]) for line in worked] == [("finish_turn", 7)]
    assert "generation" not in worked[0]
    assert "no_such_job" in {line.get("job") for line in told(lines)}  # RQ's own line


@pytest.mark.django_db
def test_a_request_is_about_its_run_and_its_user(lines: io.StringIO, client: Client) -> None:
    alice = User.objects.create_user("alice")
    client.force_login(alice)
    client.get("/runs/41/")
    (line,) = [line for line in told(lines) if line["logger"] == "django.request"]
    assert (line["run"], line["user"]) == (41, alice.pk)
    log_context.begin()


async def test_lines_of_the_broker_are_about_the_run_that_asks(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a local sandbox by whose socket it is, others by the token; also what is logged after the answer, in a task of its own."""
    monkeypatch.setattr(gateway, "REFUSED_S", 0)
    body = b'{"model": "m", "max_tokens": 1, "messages": []}'

    async def ask(key: str, answer: Grant | Refusal | Exception) -> None:
        async def open(key: str, token: str, provider: str) -> Grant | Refusal:
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def record(grant: Grant, call: Call) -> None:
            raise ConnectionError("the database is away")

        async def resolve(scheme: str, host: str, port: int) -> list[str]:
            raise NotAllowed("No.")

        broker = Broker(open=gateway.opening(open, open), record=record, upstream=Upstream(resolve), retry_s=())
        _, _, pieces = await broker(key, "POST", "/anthropic/v1/messages", [], body)
        assert [piece async for piece in pieces]
        logger.warning("the same connection")
        await broker.close()

    grant = Grant(turn_id=1, run_id=8, user_id=2, key=Key("anthropic", "secret"))
    for key, answer, run in [
        ("ab12:7:1", ConnectionError("the database is away"), 7),
        ("ab12:7:1", Refusal(403, "asynccode: No."), 7),
        ("outside:5:1", grant, 8),
        ("outside:5:1", Refusal(401, "asynccode: No."), None),  # another's on the same connection
        ("ab12:8:1", grant, 8),
    ]:
        await ask(key, answer)
        assert told(lines)[-1].get("run") == run, (key, answer)
    by_broker = [line for line in told(lines) if line["logger"] == "agents.broker"]
    assert [(line["run"], line.get("user")) for line in by_broker] == [(7, None), (8, 2), (8, 2)]


def test_lines_of_services_are_json_with_their_name() -> None:
    stream = io.StringIO()
    log = Log(stream, is_json=True)
    log.line("web", '{"at": "2026-01-01", "message": "hello"}')
    log.line("valkey", 'had "ended"')
    ours, other = map(json.loads, stream.getvalue().splitlines())
    assert ours == {"service": "web", "at": "2026-01-01", "message": "hello"}
    assert (other["service"], other["message"]) == ("valkey", 'had "ended"')


# --- Sentry ---------------------------------------------------------------------------------------------------------------

REPORT = """
import logging, django
from django.conf import settings
settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
django.setup()
from django.contrib.auth.decorators import login_not_required
from django.test import Client
from django.urls import path
from tasks.running import log_context
from tasks.web import urls
def broken(request, **words):
    secret = "l0cal-variable"
    raise ValueError("it broke")
urls.urlpatterns.insert(0, path("broken/<str:word>/", login_not_required(broken)))
with log_context.about(run=5):
    logging.getLogger("x").error("said %s", "so")
Client(raise_request_exception=False).post("/broken/sign-in/", {"prompt": "b0dy"}, headers={"Host": "localhost", "Cookie": "a=c00kie"})
import sentry_sdk
sentry_sdk.flush(5)
"""


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server for reports: its DSN, and the events that came."""
    came: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            parts = [json.loads(line) for line in body.splitlines() if line]
            came.extend(part for part in parts if "event_id" in part and "level" in part)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://key@127.0.0.1:{server.server_address[1]}/1", came
    server.shutdown()
    thread.join()
    server.server_close()


def test_sentry_is_told_what_broke_and_nothing_of_what_was_in_it(sentry: tuple[str, list[dict[str, Any]]]) -> None:
    dsn, came = sentry
    environment = os.environ | {"SENTRY_DSN": dsn, "DJANGO_SETTINGS_MODULE": "asynccode.settings"}
    argv = [sys.executable, "-c", REPORT, "--prompt=argum3nt"]
    done = subprocess.run(argv, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said, broke = came
    assert (said["logentry"]["formatted"], said["tags"]["run"]) == ("said so", "5")
    assert broke["exception"]["values"][0]["value"] == "it broke"
    assert (broke["transaction"], "request" in broke) == ("/broken/{word}/", False)
    for secret in ("l0cal-variable", "b0dy", "c00kie", "argum3nt", "vars"):
        assert secret not in json.dumps(came)


def test_without_a_dsn_it_is_not_even_imported() -> None:
    code = "import django, sys; django.setup(); sys.exit('sentry_sdk' in sys.modules)"
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "asynccode.settings"}
    assert subprocess.run([sys.executable, "-c", code], cwd=settings.BASE_DIR, env=environment, timeout=60).returncode == 0
