"""The whole product, started as a user starts it, in a folder of its own; and a browser that complains about what is wrong."""

from __future__ import annotations

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

MANAGE = [sys.executable, str(Path(__file__).resolve().parents[2] / "manage.py")]
START_S = 120
STOP_S = 60


@dataclass(frozen=True)
class Product:
    """A running `manage.py up`. Repositories within `repos` may be worked on."""

    url: str
    repos: Path
    env: dict[str, str]
    pid: int

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
        """What `manage.py shell -c CODE` prints, run against this product."""
        done = subprocess.run([*MANAGE, "shell", "-v", "0", "-c", code], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def repo(self, name: str) -> Path:
        """A repository with one commit on main."""
        path = self.repos / name
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", path]
        subprocess.run(["git", "init", "-q", "-b", "main", path], check=True)
        (path / "greeting.txt").write_text("Hello\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "base"], check=True)
        return path


@pytest.fixture(scope="session")
def live_product() -> Iterator[Product]:
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
    }
    log = folder / "up.log"
    with log.open("w") as stderr:
        process = subprocess.Popen([*MANAGE, "up", "--port", "0"], env=env, stderr=stderr, start_new_session=True)
    try:
        yield Product(_url(process, log), folder / "repos", env, process.pid)
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
