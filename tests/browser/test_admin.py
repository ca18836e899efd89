"""The administration and the queues, under the Content-Security-Policy: looked at, and acted with."""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.pages import SLOW_MS, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py

LISTS = ["apitoken", "attachment", "loginlink", "operation", "patch", "prompttemplate", "pullrequest", "repo", "run", "sandbox", "task",
         "turn", "user"]  # fmt: skip


def test_an_operator_stops_a_run_and_reads_its_events(page: Page, live_product: Product) -> None:
    submit(page, live_product, "administered", "echo '<b>started</b>'; sleep 600")
    expect(page.locator(".card")).to_contain_text("Agent at work", timeout=SLOW_MS)
    page.get_by_label("Account").click()
    page.get_by_role("link", name="Administration").click()
    page.get_by_role("link", name="Runs", exact=True).click()
    page.locator("#result_list tbody tr").first.get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option("Stop")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".messagelist")).to_contain_text("1 run is being stopped.")
    page.locator("#result_list tbody tr").first.get_by_role("link").first.click()
    page.get_by_role("link", name="All events").click()
    page.get_by_role("link", name="log", exact=True).click()
    expect(page.locator("pre").filter(has_text="<b>started</b>")).to_be_visible()


def test_every_list_opens_with_a_clean_console(page: Page) -> None:
    for name in LISTS:
        answer = page.goto(f"/admin/tasks/{name}/")
        assert answer is not None
        assert answer.ok, name


def test_the_queues_and_their_jobs_are_looked_at(context: BrowserContext, live_product: Product) -> None:
    """Their pages have scripts within them, which our policy forbids and which they can do without."""
    page = context.new_page()
    page.goto("/admin/")
    page.get_by_role("link", name="Queues, jobs and workers").click()
    expect(page.get_by_role("link", name="runs", exact=True)).to_be_visible()
    for queue in range(3):
        for part in ("", "details/", "finished/", "failed/", "started/"):
            answer = page.goto(f"/django-rq/queues/{queue}/{part}")
            assert answer is not None
            assert answer.ok, part
    page.goto("/django-rq/")
    live_product.shell("from tasks.running import nudge; nudge.enqueue_now('runs', 'dispatch')")  # they are forgotten after a minute
    page.locator("tr").filter(has=page.get_by_role("link", name="runs", exact=True)).get_by_role("link").nth(4).click()
    jobs, deadline = page.locator("#result_list tbody a"), time.monotonic() + 10
    while not jobs.count() and time.monotonic() < deadline:
        page.reload()
    jobs.first.click()
    expect(page.get_by_text("tasks.running.jobs.").first).to_be_visible()
