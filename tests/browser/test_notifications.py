"""The browser tells of the end of a run: to those who asked for it, once, and not while they look at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.pages import SLOW_MS, open_run, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py

SPY = """
window.shown = [];
const Real = window.Notification;
window.Notification = class extends Real {
  constructor(title, options) {
    super(title, options);
    window.shown.push({ title, body: options.body, tag: options.tag });
  }
};
"""


def choose(product: Product, when: str) -> None:
    product.shell(f"from tasks.models import User; User.objects.update(notify={when!r})")


@pytest.fixture
def allowed(browser: Browser, signed_in: Any, live_product: Product) -> Iterator[BrowserContext]:
    """A browser that may show notifications, whose pages keep what they showed."""
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, permissions=["notifications"]) as context:
        context.add_init_script(SPY)
        yield context
    choose(live_product, "never")


def shown(page: Page) -> Any:
    return page.evaluate("window.shown")


def test_the_end_of_a_run_is_told_on_whatever_page_is_open(allowed: BrowserContext, live_product: Product) -> None:
    choose(live_product, "run")
    page = allowed.new_page()
    submit(page, live_product, "notify", "sleep 3; echo new > new.txt")
    task = page.get_by_role("heading", level=1).inner_text()
    page.goto("/repos/")
    page.wait_for_function("() => window.shown.length > 0", timeout=SLOW_MS)
    (told,) = shown(page)
    assert told["title"] == "Shell script has finished"
    assert told["body"] == f"{task}\n+1 −0"
    page.reload()
    page.wait_for_function("() => document.getElementById('activity').children[0].hidden")
    assert shown(page) == []  # it is old by now


def test_a_failure_is_told_with_its_reason(allowed: BrowserContext, live_product: Product) -> None:
    choose(live_product, "task")
    page = allowed.new_page()
    submit(page, live_product, "notify-failure", "sleep 3; exit 3")
    page.goto("/repos/")
    page.wait_for_function("() => window.shown.length > 0", timeout=SLOW_MS)
    assert shown(page)[0]["title"] == "Shell script has failed"
    assert "exit code 3" in shown(page)[0]["body"]


def test_nothing_is_told_of_the_run_one_looks_at(allowed: BrowserContext, live_product: Product) -> None:
    choose(live_product, "run")
    page = allowed.new_page()
    submit(page, live_product, "notify-seen", "sleep 3")
    open_run(page)
    page.bring_to_front()
    expect(page.locator("#status")).to_contain_text("Succeeded", timeout=SLOW_MS)
    page.wait_for_function("() => document.getElementById('activity').children[0].hidden", timeout=SLOW_MS)  # by the same message
    assert shown(page) == []


def test_who_did_not_ask_hears_nothing(allowed: BrowserContext, live_product: Product) -> None:
    page = allowed.new_page()
    submit(page, live_product, "notify-never", "sleep 2")
    page.goto("/")
    expect(page.locator(".row").first.locator("[data-status=succeeded]")).to_have_count(1, timeout=SLOW_MS)
    assert shown(page) == []


def test_the_settings_say_whether_this_browser_may(
    browser: Browser, signed_in: Any, live_product: Product, allowed: BrowserContext
) -> None:
    page = allowed.new_page()
    page.goto("/settings/")
    expect(page.locator("#notification-permission")).to_have_text("This browser shows them.")
    with browser.new_context(storage_state=signed_in, base_url=live_product.url) as context:
        page = context.new_page()
        page.add_init_script("Object.defineProperty(Notification, 'permission', { get: () => window.answer ?? 'default' })")
        page.add_init_script("Notification.requestPermission = async () => { window.answer = 'denied'; }")
        page.goto("/settings/")
        page.get_by_role("button", name="Allow notifications in this browser").click()
        expect(page.locator("#notification-permission")).to_contain_text("blocks notifications of this site")
