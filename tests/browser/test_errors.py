"""What a person sees when something is broken, and that it mends by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
WAIT_S = 60


@contextmanager
def database_away(product: Product) -> Iterator[None]:
    """Killed as often as it is started again: the web server waits a while for one that is only started anew."""
    is_back = threading.Event()

    def keep_away() -> None:
        while not is_back.wait(0.05):
            with suppress(IndexError, ValueError):  # the file with its number is just being written
                product.kill_database()

    killer = threading.Thread(target=keep_away)
    killer.start()
    try:
        yield
    finally:
        is_back.set()
        killer.join()


def lose_database(page: Page, product: Product, path: str) -> None:
    """Load a page until it says that the database is away: a request may have been quicker than the first kill."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        response = page.goto(product.url + path)
        if response and response.status == 503:
            return
    pytest.fail("No page said that the database is away.")


@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_page_comes_back_with_the_database(browser: Browser, signed_in: Any, live_product: Product, has_scripts: bool) -> None:
    with browser.new_context(storage_state=signed_in, java_script_enabled=has_scripts) as context:
        page = context.new_page()
        with database_away(live_product):
            lose_database(page, live_product, "/settings/")
        expect(page.get_by_role("heading", name="The database cannot be reached just now")).to_be_visible()
        expect(page.get_by_role("heading", name="Settings")).to_be_visible(timeout=WAIT_S * 1000)


def test_what_was_typed_outlives_the_database(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page, other = context.new_page(), context.new_page()
        page.goto("/settings/")
        page.get_by_label("Name", exact=True).fill("Grace Hopper")
        with database_away(live_product):
            lose_database(other, live_product, "/settings/")
            page.get_by_role("button", name="Save profile").click()
        expect(page.get_by_text("What you sent was not stored.")).to_be_visible()
        other.goto("/settings/")
        expect(other.get_by_role("heading", name="Settings")).to_be_visible(timeout=WAIT_S * 1000)  # it comes back by itself
        page.go_back()
        expect(page.get_by_label("Name", exact=True)).to_have_value("Grace Hopper")


def test_a_problem_is_said_in_the_corner(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url) as context:
        page = context.new_page()
        page.goto("/settings/")
        context.clear_cookies(name="sessionid")
        page.get_by_label("Name", exact=True).fill("Ada")
        page.get_by_role("button", name="Save profile").click()
        expect(page.locator("#problem")).to_contain_text("You are signed out, so this was not sent.")
        expect(page.get_by_label("Name", exact=True)).to_have_value("Ada")
