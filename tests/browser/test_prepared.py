"""A prepared environment in the browser: it comes to be before one's eyes, a run says that it began with it, and it goes again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import SLOW_MS, choose_repo, choose_shell, open_run
from tests.browser.test_repos import open_repo

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py


def start(page: Page, repo: str) -> None:
    """A run of the shell agent; ends on its page when it has succeeded."""
    page.goto("/")
    page.get_by_label("Prompt", exact=True).fill("cat made.txt")
    choose_repo(page, repo)
    choose_shell(page, 1)
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    page.wait_for_url(re.compile(r"/tasks/\d+/$"), timeout=SLOW_MS)
    open_run(page)
    expect(page.locator("#log")).to_contain_text("Succeeded", timeout=SLOW_MS)


def test_it_is_built_shown_used_built_anew_and_deleted(page: Page, live_product: Product) -> None:
    open_repo(page, live_product, "prepared")
    address = page.url
    repo = page.locator("#head .quiet").first.inner_text().split(" · ")[0]
    part = page.get_by_label("Prepared environments", exact=True)
    expect(part).to_be_hidden()
    page.get_by_label("Setup script", exact=True).fill("echo unpacking; echo made > made.txt; sleep 1")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(part).to_contain_text("None yet.")

    start(page, repo)
    expect(page.locator("#log")).to_contain_text("Running the setup script")
    page.goto(address)
    expect(part).to_contain_text("Ready", timeout=SLOW_MS)

    start(page, repo)
    expect(page.locator("#log")).to_contain_text("Setup: prepared environment of")
    expect(page.locator("#log")).not_to_contain_text("Running the setup script")

    page.goto(address)
    expect(part).to_contain_text("used")
    page.evaluate("window.isSamePage = true")
    part.get_by_role("link", name="Rebuild…").click()
    page.get_by_role("button", name="Rebuild", exact=True).click()
    expect(part.get_by_role("link", name="Stop…")).to_be_visible()
    expect(part).to_contain_text("Ready", timeout=SLOW_MS)
    part.get_by_text("What the script said").click()
    expect(part).to_contain_text("unpacking")
    part.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(part).to_contain_text("None yet.")
    assert page.evaluate("window.isSamePage")
