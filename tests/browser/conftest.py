"""The whole product, started as a user starts it, in a folder of its own; and a browser that complains about what is wrong."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.e2bcloud.process import Cloud

ROOT = Path(__file__).resolve().parents[2]
MANAGE = [sys.executable, str(ROOT / "manage.py")]
_numbers = itertools.count(2)
START_S = 120
STOP_S = 60

# Python with the product's settings: takes code as a JSON string a line, answers with what it printed, or its traceback.
_SHELL = """
import contextlib, io, json, sys, traceback
import django
django.setup()
from django.db import connections
for line in sys.stdin:
    printed, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(printed):
            exec(json.loads(line), {"__name__": "__main__"})
    except Exception:
        error = traceback.format_exc()
    connections.close_all()
    print(json.dumps([printed.getvalue(), error]), flush=True)
"""

# What is left when nobody has done anything yet. Rows that a test made up have no sandbox, so nothing ends them.
_NOTHING = """
import time
from tasks import services
from tasks.models import FINAL, Attachment, PromptTemplate, Repo, Run, Task, User
from tasks.running import jobs
for run in Run.objects.exclude(status__in=FINAL).select_related("task"):
    services.cancel_run(run=run, by=run.task.owner)
until = time.monotonic() + 20
while Run.objects.exclude(status__in=FINAL).exclude(sandboxes__ref="").filter(sandboxes__isnull=False).exists():
    if time.monotonic() > until:
        break
    time.sleep(0.1)
for model in (Task, Repo, PromptTemplate, Attachment):
    model.objects.all().delete()
jobs.reap()  # a sandbox whose run is over may not have been put to sleep yet
User.objects.filter(is_staff=False).delete()
User.objects.update(theme="system", notify="never")
"""


@dataclass(frozen=True)
class Product:
    """A running `manage.py up`. Repositories within `repos` may be worked on. Sandboxes are local ones unless E2B is asked for."""

    url: str
    repos: Path
    env: dict[str, str]
    pid: int
    python: subprocess.Popen[str]

    def kill_web_server(self) -> None:
        """kill -9; the process manager starts another."""
        for process in psutil.Process(self.pid).children(recursive=True):
            if "daphne" in process.cmdline():
                process.kill()

    def kill_database(self) -> None:
        """kill -9; the process manager starts it again after a while."""
        with suppress(FileNotFoundError, ProcessLookupError):  # it is dead already, or not up yet
            pid = int((Path(self.env["ASYNCCODE_DATA"]) / "postgres" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)

    def login_link(self) -> str:
        """A fresh one; each works once."""
        done = subprocess.run([*MANAGE, "login-link"], env=self.env, check=True, capture_output=True, text=True)
        found = re.search(r"/sign-in/link/\S+", done.stdout)
        assert found, done.stdout
        return self.url + found[0]

    def shell(self, code: str) -> str:
        """What this code prints, run in a Python that uses this product's services."""
        assert self.python.stdin
        assert self.python.stdout
        self.python.stdin.write(json.dumps(code) + "\n")
        self.python.stdin.flush()
        printed, error = json.loads(self.python.stdout.readline())
        assert not error, error
        return str(printed)

    def repo(self, name: str) -> Path:
        """A new repository with one commit on main. Two that want the same name have it each in a folder of its own."""
        path = self.repos / name
        while path.exists():
            path = path.parent / f"again-{next(_numbers)}" / name
        path.parent.mkdir(exist_ok=True)
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", path]
        subprocess.run(["git", "init", "-q", "-b", "main", path], check=True)
        (path / "greeting.txt").write_text("Hello\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "base"], check=True)
        return path


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    with Cloud.start() as cloud:
        yield cloud


@pytest.fixture(scope="session")
def live_product(cloud: Cloud) -> Iterator[Product]:
    folder = Path(tempfile.mkdtemp(prefix="asynccode-browser-", dir="/tmp"))  # short: the paths of sockets must be
    folder.chmod(0o711)
    (folder / "data").mkdir(mode=0o711)
    (folder / "repos").mkdir()
    plain = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "PUBLIC_URL")}
    env = plain | {
        "ASYNCCODE_DATA": str(folder / "data"),
        "LOCAL_REPO_ROOTS": str(folder / "repos"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PASSWORD_LOGIN": "1",
        "SANDBOX_BACKEND": "local",
        **cloud.env,
    }
    log = folder / "up.log"
    with log.open("w") as stderr:
        process = subprocess.Popen([*MANAGE, "up", "--port", "0"], env=env, stderr=stderr, start_new_session=True)
    try:
        url = _url(process, log)
        in_django = env | {"DJANGO_SETTINGS_MODULE": "asynccode.settings", "PORT": url.rpartition(":")[2]}
        shell = [sys.executable, "-c", _SHELL]
        with subprocess.Popen(
            shell, env=in_django, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as python:
            yield Product(url, folder / "repos", env, process.pid, python)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_S)
        shutil.rmtree(folder, ignore_errors=True)


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where the pages are, as soon as it is said."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"is running at (\S+)\n", log.read_text()):
            return found[1]
        time.sleep(0.1)
    pytest.fail(f"The product did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing(live_product: Product) -> Iterator[None]:
    """Each module finds the product as if it were new: nothing runs, nobody has chosen anything."""
    yield
    live_product.shell(_NOTHING)


@pytest.fixture(scope="module")
def signed_in(browser: Browser, live_product: Product) -> dict[str, object]:
    """A session, as Playwright keeps it."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(live_product.login_link())
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(live_product.url + "/")
        return dict(context.storage_state())


@pytest.fixture
def context(browser: Browser, signed_in: dict[str, object], live_product: Product) -> Iterator[BrowserContext]:
    """A browser that is signed in."""
    with browser.new_context(storage_state=signed_in, base_url=live_product.url) as context:  # type: ignore[arg-type]
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page on which no script fails and nothing is done that the Content-Security-Policy forbids."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" and "422" not in message.text else None)
    yield page
    assert not wrong
