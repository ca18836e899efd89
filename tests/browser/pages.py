"""What browser tests do on the pages again and again."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

Product = Any  # tests/browser/conftest.py
SLOW_MS = 30_000  # until something in a sandbox shows on a page


def choose_repo(page: Page, address: str) -> None:
    """Choose a repository in the composer by its address, a new one or one that is there."""
    page.locator("#repo-picker > summary").click()
    page.get_by_label("Search repositories").fill(address)
    page.locator(f"#repo-picker .found[data-q='{address}']").wait_for()
    page.get_by_label("Search repositories").press("Enter")


def choose_shell(page: Page, attempts: int) -> None:
    """Say in the composer's picker how often the shell agent is to run."""
    page.locator("#agent-picker > summary").click()
    if page.evaluate("matchMedia('(pointer: fine)').matches"):  # it then gives the focus to its first field, a moment later
        expect(page.locator("#agent-picker input[type=number]").first).to_be_focused()
    page.get_by_label("Runs of Shell script").fill(str(attempts))


def submit(page: Page, product: Product, name: str, script: str, *, attempts: int = 1) -> None:
    """Submit a shell task by the composer; ends on the task's page."""
    page.goto("/")
    page.get_by_label("Prompt", exact=True).fill(script)
    choose_repo(page, str(product.repo(name)))
    choose_shell(page, attempts)
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    page.wait_for_url(re.compile(r"/tasks/\d+/$"), timeout=SLOW_MS)


def open_run(page: Page) -> None:
    page.get_by_role("link", name="Open run").first.click()
    page.wait_for_url(re.compile(r"/runs/\d+/$"))
    page.wait_for_load_state()  # before its scripts have run, a form loads the page anew
