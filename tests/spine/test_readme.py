"""README.md, followed word for word by somebody who has nothing yet, in a fresh clone of what is committed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import SLOW_MS, choose_repo, choose_shell
from tests.client.terminal import Terminal
from tests.spine.product import GIT, SOURCE, belonging_to, send, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]  # packages come from a network
INSTALLS_S = 600
KEPT = re.compile(r"PATH|LANG|PIP_.*|(https?|no)_proxy|SSL_CERT_(FILE|DIR)", re.IGNORECASE)
# `make test` runs all tests, this one among them; these two files need a database, and are over in seconds.
FEW = "tests/asynccode/test_environment.py tests/tasks/test_tokens.py"


class Newcomer:
    """Somebody with a clone, an empty home but for a repository to try things on, and a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clone, self.home = folder, folder / "asynccode", folder / "home"
        self.environment = {key: value for key, value in os.environ.items() if KEPT.fullmatch(key)} | {
            "HOME": str(self.home),
            "ASYNCCODE_DATA": str(folder / "data"),  # root's would not be below the home
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache/pip")),
            "TERM": "xterm",
        }
        subprocess.run([*GIT, "clone", "-q", "--no-hardlinks", str(SOURCE), str(self.clone)], check=True)
        self.readme = (self.clone / "README.md").read_text()
        self.commands = re.findall(r"^```\n(.*?)\n```", self.readme, re.MULTILINE | re.DOTALL)
        self.shop = self.home / "shop"
        self.shop.mkdir(parents=True)
        for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "Begin"]):
            subprocess.run([*GIT, *words], cwd=self.shop, check=True)

    def types(self, command: str) -> Terminal:
        return Terminal(["bash", "-c", command], cwd=self.clone, environment=self.environment)

    def says(self, command: str) -> str:
        return subprocess.check_output(["bash", "-c", command], cwd=self.clone, env=self.environment, text=True)

    def starts(self) -> Terminal:
        """`make run` in the way that README.md has for a port that is taken; 0 is any free one."""
        found = re.search(r"`(make run ARGS=\"--port )\d+\"`", self.readme)
        assert found
        return self.types(f'{found[1]}0"')


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    folder = Path(tempfile.mkdtemp(prefix="asynccode-readme-", dir="/tmp"))
    folder.chmod(0o711)  # the accounts of servers and sandboxes pass through
    try:
        yield Newcomer(folder)
    finally:
        wait_for(lambda: are_killed(belonging_to(folder)), "the end of what a failed test left", 60)
        shutil.rmtree(folder)


def are_killed(pids: list[int]) -> bool:
    send(pids, signal.SIGKILL)
    return not pids


def link(terminal: Terminal) -> str:
    """The printed one, that signs in."""
    terminal.until("Sign in, once", INSTALLS_S)
    while not (found := re.search(r"Sign in, once, with +(\S+)\r?\n", terminal.text)):
        terminal.read()
    return found[1]


def stop(newcomer: Newcomer, terminal: Terminal) -> None:
    """Ctrl-C, after which no process is left."""
    terminal.type("\x03")
    terminal.ended()
    wait_for(lambda: not belonging_to(newcomer.folder), "the end of every process", 60)


def test_it_has_two_commands(newcomer: Newcomer) -> None:
    assert newcomer.commands == ["make run", "make test"]


def test_make_run_leads_to_a_diff_and_ctrl_c_loses_nothing(newcomer: Newcomer, page: Page) -> None:
    guide = (newcomer.clone / "docs/user-guide.md").read_text()
    script = re.search(r"\*Shell script\*.*?^```\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert script

    with newcomer.starts() as terminal:
        page.goto(link(terminal))
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Prompt", exact=True).fill(script[1])
        choose_repo(page, str(newcomer.shop))
        choose_shell(page, 1)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Code", exact=True).click()
        page.get_by_role("link", name="Open run").click(timeout=SLOW_MS)
        expect(page.locator("#status")).to_contain_text("Succeeded", timeout=SLOW_MS)
        expect(page.get_by_role("table", name="Changed files")).to_contain_text("hello.txt", timeout=SLOW_MS)
        run = page.url
        another = newcomer.says(".venv/bin/python manage.py login-link")  # by the user guide
        assert another.startswith(page.url.partition("/runs/")[0] + "/sign-in/link/")
        stop(newcomer, terminal)

    with newcomer.starts() as terminal:
        page.goto(link(terminal))
        page.get_by_role("button", name="Sign in").click()
        page.goto(re.sub(r":\d+/", f":{page.url.rpartition(':')[2].strip('/')}/", run))
        expect(page.locator("#status")).to_contain_text("Succeeded", timeout=SLOW_MS)
        page.get_by_role("link", name="Review changes").click()
        expect(page.get_by_role("cell", name="Hello from a sandbox")).to_be_visible(timeout=SLOW_MS)
        stop(newcomer, terminal)


@pytest.mark.long
def test_make_test_installs_what_it_needs_and_runs(newcomer: Newcomer) -> None:
    (command,) = [command for command in newcomer.commands if "test" in command]
    with newcomer.types(f'{command} ARGS="{FEW}"') as terminal:
        assert terminal.ended(INSTALLS_S) == 0, terminal.text
        assert re.search(r"\d+ passed", terminal.text)
    status = subprocess.run([*GIT, "status", "--porcelain", "--ignored"], cwd=newcomer.clone, capture_output=True, text=True, check=True)
    assert status.stdout == "!! .venv/\n"
