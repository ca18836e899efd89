"""What browser tests do on the pages again and again."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page

Product = Any  # tests/browser/conftest.py
SLOW_MS = 30_000  # until something in a sandbox shows on a page


def submit(page: Page, product: Product, name: str, script: str, *, attempts: int = 1) -> None:
    """Submit a shell task by the composer; ends on the task's page."""
    page.goto("/")
    page.get_by_label("Prompt").fill(script)
    page.locator(".picker summary").click()
    page.locator("[name=source]").fill(str(product.repo(name)))
    page.keyboard.press("Escape")
    page.get_by_label("Attempts of Shell script").fill(str(attempts))
    page.get_by_label("Prompt").press("Control+Enter")
    page.wait_for_url(re.compile(r"/tasks/\d+/$"), timeout=SLOW_MS)


def open_run(page: Page) -> None:
    page.get_by_role("link", name="Open run").first.click()
    page.wait_for_url(re.compile(r"/runs/\d+/$"))
