"""The doctor says what is wrong and what to do, whatever is broken, and never a secret."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings as configured
from django.db import OperationalError
from pytest_django import Settings

from asynccode.doctor import elsewhere, machine, services
from asynccode.doctor.checkup import Check, examine
from tasks.models import Beats, Credential, Delivery, User
from tasks.running import backends, heartbeats
from tasks.running.condition import Finding, State
from tests.e2bcloud.process import Cloud

SECRETS = {
    "SECRET_KEY": "a-secret-of-which-nobody-may-know-0123",
    "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "DATABASE_URL": "postgres://me:pass%2Fw0rd@127.0.0.1:1/x",
    "REDIS_URL": "redis://:r3dis-word@127.0.0.1:1/0",
    "GITHUB_TOKEN": "ghp_0123456789abcdefghij0123456789abcdef",
    "GITHUB_URL": "http://127.0.0.1:1",
    "ALLOW_PRIVATE_HOSTS": "127.0.0.1:1",
    "METRICS_TOKEN": "m3trics-token",
    "ANTHROPIC_API_KEY": "sk-ant-0123456789",
}


def found(check: Check) -> dict[str, tuple[State, str]]:
    """Of each check its last finding."""
    return {finding.check: (finding.state, finding.sentence) for finding in check()}


# --- as a whole -----------------------------------------------------------------------------------------------------------


def test_with_everything_down_it_is_quick_says_what_to_do_and_shows_no_secret(tmp_path: Path) -> None:
    environment = os.environ | SECRETS | {"ASYNCCODE_DATA": str(tmp_path / "data")}
    begun = time.monotonic()
    argv = [sys.executable, str(configured.BASE_DIR / "manage.py"), "doctor"]
    done = subprocess.run([*argv, "--json"], env=environment, capture_output=True, text=True, timeout=90)
    assert time.monotonic() - begun < 40  # some of it is Python's start, and other tests'
    assert done.returncode == 1, done.stderr
    told = {entry["check"]: entry for entry in json.loads(done.stdout)}
    assert told["python"]["state"] == told["git"]["state"] == "ok"
    assert (told["database"]["state"], told["redis"]["state"], told["github"]["state"]) == ("problem",) * 3
    assert "DATABASE_URL" in told["database"]["sentence"]
    assert told["migrations"]["state"] == told["secrets"]["state"] == "warning"
    assert "the database does not answer" in told["migrations"]["sentence"]
    for word in ("w0rd", "r3dis", SECRETS["SECRET_KEY"], SECRETS["ENCRYPTION_KEYS"], SECRETS["GITHUB_TOKEN"], "m3trics", "sk-ant"):
        assert word not in done.stdout + done.stderr


def test_a_check_that_hangs_or_stumbles_holds_up_no_other(settings: Settings) -> None:
    settings.GITHUB_TOKEN = "ghp_secret"
    over = threading.Event()

    def hangs() -> Iterator[Finding]:
        over.wait()
        yield Finding.ok("hangs", "")

    def stumbles() -> Iterator[Finding]:
        raise RuntimeError("with ghp_secret\nand more")

    def lacks_rows() -> Iterator[Finding]:
        raise OperationalError("connection refused")

    checks: dict[str, Check] = {"hangs": hangs, "stumbles": stumbles, "rows": lacks_rows, "python": machine.python}
    late, stumbled, rows, python = examine(checks, limit_s=1.0)
    over.set()
    assert (late.check, late.state) == ("hangs", State.PROBLEM)
    assert "within 1 s" in late.sentence
    assert stumbled.sentence == "It could not be looked at (RuntimeError): with •••."
    assert rows.state is State.WARNING
    assert python.state is State.OK


@pytest.fixture
def new() -> Iterator[Path]:
    """A data folder that the account of sandboxes can pass through, as pytest's own cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="asynccode-doctor-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder)


def test_an_installation_that_was_never_started_has_no_problem(new: Path) -> None:
    left_out = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | {"ASYNCCODE_DATA": str(new)}
    argv = [sys.executable, str(configured.BASE_DIR / "manage.py"), "doctor"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=90)
    assert "warning  database        asynccode is not running" in done.stdout
    assert "make run" in done.stdout
    assert "problem " not in done.stdout, done.stdout
    assert done.returncode == 0


# --- the machine ----------------------------------------------------------------------------------------------------------


def test_files_that_others_can_read_or_write_are_named_with_the_command(settings: Settings, tmp_path: Path) -> None:
    settings.DATA, settings.BASE_DIR = tmp_path, tmp_path
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    (keys / "secret_key").touch(mode=0o600)
    tmp_path.chmod(0o711)
    assert found(machine.files)["files"][0] is State.OK
    (keys / "secret_key").chmod(0o644)
    (tmp_path / ".env").touch()
    (tmp_path / ".env").chmod(0o644)
    tmp_path.chmod(0o777)
    sentences = " ".join(finding.sentence for finding in machine.files())
    assert f"chmod o-w {tmp_path}" in sentences
    assert f"chmod 600 {keys / 'secret_key'}" in sentences
    assert f"chmod 600 {tmp_path / '.env'}" in sentences


def test_keys_that_are_weak_none_or_on_one_host_only(settings: Settings) -> None:
    settings.SECRET_KEY, settings.ENCRYPTION_KEYS = "x" * 40, [Fernet.generate_key().decode()]
    settings.KEPT_KEYS, settings.IS_DATABASE_EMBEDDED = ["SECRET_KEY"], True
    assert found(machine.own_keys)["keys"][0] is State.OK
    settings.SECRET_KEY, settings.IS_DATABASE_EMBEDDED = "short", False
    settings.ENCRYPTION_KEYS += ["not a key"]
    by_state = {finding.state: finding.sentence for finding in machine.own_keys()}
    assert "Number 2 of ENCRYPTION_KEYS" in by_state[State.PROBLEM]
    assert "SECRET_KEY is not set, and kept in" in by_state[State.WARNING]


# --- what is stored -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("services")
def test_services_that_answer_and_those_that_are_not_at_work() -> None:
    for kind in Beats:
        if kind != Beats.GATEWAY:
            heartbeats.beat(kind)
    told = found(services.database) | found(services.migrations) | found(services.cache)
    problems = {check: sentence for check, (state, sentence) in told.items() if state is State.PROBLEM}
    assert list(problems) == ["gateway"]
    assert "manage.py gateway" in problems["gateway"]
    assert {"database", "clock", "migrations", "redis", "follow", "worker", "reconcile"} <= told.keys()


@pytest.mark.django_db
def test_secrets_under_an_older_key_or_under_none(settings: Settings) -> None:
    alice = User.objects.create_user("alice")

    def keep(provider: str, key: str) -> Credential:
        settings.ENCRYPTION_KEYS = [key]
        row = Credential(owner=alice, provider=provider, base_url="https://x.example")
        row.secret = "sk-0123456789"
        row.save()
        return row

    old, new, lost = (Fernet.generate_key().decode() for _ in range(3))
    keep("openai", new)
    assert found(services.secrets)["secrets"] == (State.OK, "1 are stored, all under the first of ENCRYPTION_KEYS.")
    keep("gemini", old)
    settings.ENCRYPTION_KEYS = [new, old]
    state, sentence = found(services.secrets)["secrets"]
    assert (state, "manage.py rotate-keys" in sentence) == (State.WARNING, True)
    row = keep("anthropic", lost)
    settings.ENCRYPTION_KEYS = [new, old]
    by_state = {finding.state: finding.sentence for finding in services.secrets()}
    assert f"credential {row.pk}" in by_state[State.PROBLEM]


@pytest.mark.parametrize(("ahead_s", "words"), [(42.0, "42 s behind the database's"), (-42.0, "42 s ahead of the database's")])
def test_a_clock_that_is_wrong(ahead_s: float, words: str) -> None:
    finding = services.clock("the database's", ahead_s)
    assert (finding.state, words in finding.sentence) == (State.PROBLEM, True)
    assert services.clock("the database's", ahead_s, slack_s=40.0).state is State.OK


# --- elsewhere ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def github(settings: Settings) -> Iterator[dict[str, Any]]:
    """What GitHub answers when it is asked for our limits: its status, and how far its clock is ahead."""
    answer: dict[str, Any] = {"status": 200, "ahead_s": 0.0}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"message": "Bad credentials", "resources": {"core": {"remaining": 4999, "limit": 5000}}}).encode()
            self.send_response_only(answer["status"])
            self.send_header("Date", formatdate(time.time() + answer["ahead_s"], usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    settings.GITHUB_URL = f"http://127.0.0.1:{server.server_address[1]}"
    settings.GITHUB_API_URL, settings.GITHUB_TOKEN = f"{settings.GITHUB_URL}/api/v3", "ghp_x"
    yield answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_github_with_a_good_token_a_bad_one_and_a_wrong_clock(github: dict[str, Any], settings: Settings) -> None:
    told = found(elsewhere.github)
    assert told["github"] == (State.OK, f"{settings.GITHUB_URL} answers. GITHUB_TOKEN works; 4999 of 5000 requests are left.")
    assert told["clock"][0] is State.OK
    github["ahead_s"] = 90.0
    assert "behind GitHub's" in found(elsewhere.github)["clock"][1]
    github["status"] = 401
    state, sentence = found(elsewhere.github)["github"]
    assert (state, "GitHub refuses GITHUB_TOKEN" in sentence) == (State.PROBLEM, True)


@pytest.mark.django_db
def test_sign_in_and_webhooks_that_are_half_set(settings: Settings) -> None:
    settings.GITHUB_CLIENT_ID, settings.GITHUB_CLIENT_SECRET, settings.GITHUB_WEBHOOK_SECRET = "id", "secret", "hook"
    settings.PUBLIC_URL = "https://asynccode.example"
    told = found(elsewhere.github_app)
    assert "GITHUB_ALLOWED_ORGS" in told["github sign-in"][1]
    assert "https://asynccode.example/github/webhook" in told["webhooks"][1]
    Delivery.objects.create(delivery_id="1", event="ping")
    assert found(elsewhere.github_app)["webhooks"][0] is State.OK


@pytest.mark.django_db
def test_e2b_with_a_key_that_is_refused_and_a_template_that_is_not_there(settings: Settings) -> None:
    settings.E2B_API_KEY = ""
    assert "are made on this machine" in found(elsewhere.e2b)["e2b"][1]
    with Cloud.start() as cloud:
        backends.backend.cache_clear()
        settings.E2B_API_KEY, settings.E2B_API_URL, settings.E2B_TEMPLATE = cloud.options["api_key"], cloud.url, ""
        told = found(elsewhere.e2b)
        assert told["e2b"][0] is State.OK
        assert (told["e2b template"][0], "build-template" in told["e2b template"][1]) == (State.WARNING, True)
        settings.E2B_TEMPLATE = "nowhere"
        assert found(elsewhere.e2b)["e2b template"][0] is State.PROBLEM
        backends.backend.cache_clear()
        settings.E2B_API_KEY = "e2b_" + "0" * 40
        state, sentence = found(elsewhere.e2b)["e2b"]
        assert (state, "E2B_API_KEY" in sentence) == (State.PROBLEM, True)
    backends.backend.cache_clear()


def test_no_sandbox_anywhere(settings: Settings) -> None:
    settings.LOCAL_SANDBOXES, settings.E2B_API_KEY, settings.SANDBOX_BACKEND = False, "", "e2b"
    state, sentence = found(elsewhere.e2b)["e2b"]
    assert state == State.PROBLEM
    assert "Set E2B_API_KEY, or allow local sandboxes" in sentence


def test_a_public_address_that_leads_elsewhere(github: dict[str, Any], settings: Settings) -> None:
    settings.GATEWAY_PUBLIC_URL = ""
    assert found(elsewhere.gateway) == {}
    settings.GATEWAY_PUBLIC_URL = settings.GITHUB_URL
    assert found(elsewhere.gateway)["gateway url"][0] is State.OK
    github["status"] = 404
    assert "it answers 404. Let your proxy send" in found(elsewhere.gateway)["gateway url"][1]
    settings.GATEWAY_PUBLIC_URL = "http://127.0.0.1:1"
    assert found(elsewhere.gateway)["gateway url"][0] is State.PROBLEM
