"""The product as a user starts it, on a throwaway data folder, driven through its pages."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psycopg

ROOT = Path(__file__).resolve().parent.parent
_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")


def adopt_orphans() -> None:
    """Become the parent of what our descendants leave behind, so that `reap` can tell what sandboxes used."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Product:
    up: subprocess.Popen[bytes]
    url: str
    data: Path
    env: dict[str, str]
    page: httpx.Client

    def manage(self, *args: str) -> str:
        argv = [sys.executable, str(ROOT / "manage.py"), *args]
        return subprocess.run(argv, env=self.env, check=True, capture_output=True, text=True).stdout

    def sign_in(self) -> None:
        link = self.manage("login-link").strip()
        answer = self.page.post(link, data={"csrfmiddlewaretoken": self._token(link)})
        assert answer.is_redirect, f"The login link was not taken: {answer.status_code}"

    def _token(self, url: str) -> str:
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.page.get(url).raise_for_status().text)
        assert found is not None
        return found[1]

    def form(self) -> dict[str, str]:
        """What the composer's form has to carry besides its fields."""
        return {"csrfmiddlewaretoken": self._token(self.url + "/")}

    def submit(self, form: dict[str, str], *, source: Path, prompt: str, attempts: int) -> float:
        """Post the composer's form; gives the moment of the POST."""
        fields = {"prompt": prompt, "source": str(source), "branch": "", "runs-shell": str(attempts)}
        at = time.time()
        answer = self.page.post(self.url + "/tasks/new", data=form | fields)
        assert answer.is_redirect, f"The task was not taken: {answer.status_code} {answer.text[:2000]}"
        return at

    def query(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return self._database.execute(sql, params).fetchall()

    @cached_property
    def _database(self) -> psycopg.Connection[tuple[Any, ...]]:
        """One connection for all questions: the server's part in opening one would count as the product's."""
        return psycopg.connect(f"host={self.data}/sockets/postgres dbname=asynccode user=asynccode", autocommit=True)

    def close_database(self) -> None:
        if "_database" in self.__dict__:
            self._database.close()

    def services_cpu(self) -> float:
        """Seconds of CPU of all services: every living descendant of `up`, and what they have reaped."""
        parents, used = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                parents[int(entry.name)] = int(fields[1])
                used[int(entry.name)] = sum(map(int, fields[11:15])) / _TICKS

        def is_service(pid: int) -> bool:
            while pid > 1:
                if pid == self.up.pid:
                    return True
                pid = parents.get(pid, 0)
            return False

        return sum(seconds for pid, seconds in used.items() if is_service(pid))

    def reap(self) -> float:
        """Seconds of CPU of the orphans that have ended since the last call: sandboxes, with all that ran in them."""
        seconds = 0.0
        while True:
            try:
                pid, _, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return seconds
            if pid == 0:
                return seconds
            assert pid != self.up.pid, "The product has stopped; its log is above."
            seconds += usage.ru_utime + usage.ru_stime


@contextmanager
def started(**settings: str) -> Iterator[Product]:
    """The product on a new data folder, its pages signed in to; stopped and removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="asynccode-bench-"))
    home.chmod(0o711)
    port = free_port()
    data = home / "data"
    env = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
    env |= {"ASYNCCODE_DATA": str(data), "PORT": str(port), "LOCAL_REPO_ROOTS": str(home), **settings}
    argv = [sys.executable, str(ROOT / "manage.py"), "up", "--port", str(port)]
    with (home / "log").open("wb") as log:
        up = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
        product = Product(up, f"http://localhost:{port}", data, env, httpx.Client(timeout=60))
        try:
            _wait_until_it_answers(product)
            product.sign_in()
            yield product
        except BaseException:
            sys.stderr.write((home / "log").read_text()[-4000:])
            raise
        finally:
            up.send_signal(signal.SIGINT)
            while up.poll() is None:
                time.sleep(0.1)
            product.page.close()
            product.close_database()
            shutil.rmtree(home, ignore_errors=True)


def _wait_until_it_answers(product: Product) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert product.up.poll() is None, "The product did not start; its log is above."
        try:
            product.page.get(product.url + "/sign-in/").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("The product did not answer within two minutes.")
