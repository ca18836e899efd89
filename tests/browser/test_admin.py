"""The administration and the queues, under the Content-Security-Policy: looked at, and acted with."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.pages import SLOW_MS, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
AXE_SCRIPT = Axe().axe_script

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


def test_pages_besides_the_lists_are_fit_for_all(browser: Browser, page: Page, live_product: Product) -> None:
    """In light and dark, on a desk and on a phone, axe finds nothing and none scrolls sideways. The script that looks is let in,
    which our policy forbids."""
    state = page.context.storage_state()
    for scheme, width in itertools.product(("light", "dark"), (1280, 390)):
        context = browser.new_context(
            base_url=live_product.url,
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 900},
            storage_state=state,
            bypass_csp=True,
        )
        looking = context.new_page()
        for address in ("/admin/", "/admin/sandboxes/", "/admin/queues/", "/admin/settings/", "/admin/tasks/auditentry/"):
            looking.goto(address)
            looking.evaluate(AXE_SCRIPT)
            found = looking.evaluate("axe.run('html')")["violations"]
            assert not found, [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
            assert looking.evaluate("document.documentElement.scrollWidth") <= width, address
        context.close()


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
