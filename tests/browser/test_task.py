"""A task's page in the browser: cards that stay in place, follow-ups to several runs, retrying, archiving."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import SLOW_MS, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py


def test_cards_follow_stop_and_retry_in_place(page: Page, live_product: Product) -> None:
    submit(page, live_product, "cards", "echo more > more.txt; sleep 600", attempts=2)
    page.evaluate("window.isSamePage = true")
    cards = page.locator(".card")
    expect(cards.get_by_text("Agent at work")).to_have_count(2, timeout=SLOW_MS)
    expect(page).to_have_title("● 2 running · echo more > more.txt; sleep 600 · asynccode")
    box = cards.first.bounding_box()
    cards.first.get_by_role("button", name="Stop").click()
    expect(cards.first).to_contain_text("Canceled", timeout=SLOW_MS)
    expect(cards.first).to_contain_text("+1")
    assert cards.first.bounding_box() == box
    cards.first.get_by_role("button", name="Retry").click()
    expect(cards).to_have_count(3)
    expect(cards.nth(2)).to_contain_text("Agent at work", timeout=SLOW_MS)
    page.get_by_role("button", name="Stop all 2 runs").click()
    expect(cards.get_by_text("Canceled")).to_have_count(3, timeout=SLOW_MS)
    expect(page).to_have_title("✓ echo more > more.txt; sleep 600 · asynccode")
    assert page.evaluate("window.isSamePage")


def test_a_follow_up_goes_to_the_chosen_runs(page: Page, live_product: Product) -> None:
    submit(page, live_product, "follow-ups", "true", attempts=2)
    page.evaluate("window.isSamePage = true")
    cards, boxes = page.locator(".card"), page.locator(".to-runs input")
    expect(cards.get_by_text("Succeeded")).to_have_count(2, timeout=SLOW_MS)
    expect(boxes.first).to_be_checked()
    boxes.first.uncheck()
    page.evaluate("htmx.trigger('#cards', 'news')")  # news keep what was chosen
    page.get_by_label("Follow-up", exact=True).fill("echo more > more.txt")
    page.get_by_label("Follow-up", exact=True).press("Control+Enter")
    expect(page.get_by_label("Follow-up", exact=True)).to_have_value("")
    expect(cards.nth(1)).to_contain_text("+1", timeout=SLOW_MS)
    expect(cards.first).not_to_contain_text("+1")
    assert page.evaluate("window.isSamePage")


def test_a_follow_up_that_is_refused_is_kept(page: Page, live_product: Product) -> None:
    submit(page, live_product, "refused", "true", attempts=2)
    expect(page.locator(".card").get_by_text("Succeeded")).to_have_count(2, timeout=SLOW_MS)
    for box in page.locator(".to-runs input").all():
        box.uncheck()
    page.get_by_label("Follow-up", exact=True).fill("true")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Choose at least one run")).to_be_visible()
    expect(page.get_by_label("Follow-up", exact=True)).to_have_value("true")


def test_a_follow_up_that_is_not_sent_is_there_after_a_reload(page: Page, live_product: Product) -> None:
    submit(page, live_product, "draft", "true", attempts=2)
    boxes = page.locator(".to-runs input")
    boxes.first.uncheck()
    page.get_by_label("Follow-up", exact=True).fill("echo later")
    page.reload()
    expect(page.get_by_label("Follow-up", exact=True)).to_have_value("echo later")
    expect(boxes.first).not_to_be_checked()
    expect(boxes.nth(1)).to_be_checked()


def test_what_has_failed_is_retried_and_the_task_archived_and_brought_back(page: Page, live_product: Product) -> None:
    submit(page, live_product, "failed", "exit 3")
    expect(page.locator(".card").first).to_contain_text("Failed", timeout=SLOW_MS)
    expect(page).to_have_title("✕ exit 3 · asynccode")
    page.get_by_role("button", name="Retry failed").click()
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator(".card").get_by_text("Failed", exact=True)).to_have_count(2, timeout=SLOW_MS)
    address = page.url
    page.get_by_role("link", name="Archive…").click()
    page.get_by_role("dialog").get_by_role("button", name="Archive").click()
    expect(page.get_by_text("The task is archived.")).to_be_visible()
    page.goto(address)
    page.get_by_role("button", name="Bring back").click()
    expect(page.get_by_text("The task is back.")).to_be_visible()


def test_without_scripts(browser: Browser, page: Page, signed_in: Any, live_product: Product) -> None:
    submit(page, live_product, "plain", "true", attempts=2)
    expect(page.locator(".card").get_by_text("Succeeded")).to_have_count(2, timeout=SLOW_MS)
    with browser.new_context(storage_state=signed_in, java_script_enabled=False) as context:
        plain = context.new_page()
        plain.goto(page.url)
        plain.get_by_label("Follow-up", exact=True).fill("sleep 600")
        plain.locator(".to-runs input").first.uncheck()
        plain.get_by_role("button", name="Send").click()
        expect(plain.locator(".card").nth(1)).not_to_contain_text("Succeeded")
        expect(plain.locator(".card").first).to_contain_text("Succeeded")
        plain.locator(".card").nth(1).get_by_role("button", name="Stop").click()
        expect(plain).to_have_url(page.url)  # beside the others, not at the run
        expect(plain.locator(".card").nth(1)).to_contain_text(re.compile("Stopping|Canceled"))
