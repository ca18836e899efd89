"""Where a run is, from the choice in the composer to its page, in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import SLOW_MS, Product, choose_repo, choose_shell, open_run

pytestmark = pytest.mark.browser


def test_a_task_is_sent_to_e2b_by_keyboard_and_its_pages_say_so(page: Page, live_product: Product) -> None:
    page.goto("/")
    page.get_by_label("Prompt", exact=True).fill("echo made > made.txt")
    choose_repo(page, str(live_product.repo("to-e2b")))
    choose_shell(page, 1)
    choice = page.get_by_label("Sandbox")
    expect(choice).to_have_value("local")
    choice.focus()
    page.keyboard.type("E2B")
    expect(choice).to_have_value("e2b")
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    page.wait_for_url(re.compile(r"/tasks/\d+/$"), timeout=SLOW_MS)
    card = page.locator(".card")
    expect(card.locator("dl")).to_contain_text("Sandbox E2B")
    expect(card).to_contain_text("Succeeded", timeout=SLOW_MS)
    expect(card).to_contain_text("+1")
    open_run(page)
    expect(page.locator("#status .status")).to_contain_text("E2B")
    page.locator("#tab-sandbox").click()
    expect(page.locator("#work")).to_contain_text("E2B microVM")
    page.goto("/")
    expect(page.locator("#rows > li").first).to_contain_text("E2B")
    expect(page.get_by_label("Sandbox")).to_have_value("local")  # what is usual here, not what was last


def test_a_choice_that_was_not_sent_is_there_again(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Prompt", exact=True).fill("echo later")
    page.get_by_label("Sandbox").select_option("e2b")
    page.reload()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("echo later")
    expect(page.get_by_label("Sandbox")).to_have_value("e2b")
