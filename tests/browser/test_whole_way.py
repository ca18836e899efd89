"""The whole way through the browser: sign in, submit, watch, see the patch; and that it works without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.pages import SLOW_MS, open_run, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
# Within five seconds: what is around the log may have grown a moment ago.
COMES_TO_ITS_END = """element => new Promise((resolve) => {
  const until = performance.now() + 5000;
  const look = () => {
    const isThere = element.scrollHeight - element.scrollTop - element.clientHeight < 2;
    if (isThere || performance.now() > until) resolve(isThere);
    else requestAnimationFrame(look);
  };
  look();
})"""


def test_a_link_signs_in_once(browser: Browser, live_product: Product) -> None:
    link = live_product.login_link()
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="What should the agents do?")).to_be_visible()
        page.get_by_label("Account").click()
        page.get_by_role("button", name="Sign out").click()
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("This link does not work any more")).to_be_visible()


def test_a_shell_task_from_the_prompt_to_the_patch(page: Page, live_product: Product) -> None:
    script = "sed -i s/Hello/Goodbye/ greeting.txt\necho started\nsleep 600\necho ended"
    submit(page, live_product, "whole-way", script)
    expect(page.locator(".card").get_by_text("Agent at work")).to_be_visible(timeout=SLOW_MS)
    open_run(page)
    log = page.get_by_role("log")
    output = log.locator("[data-stream=stdout]")
    expect(output.last).to_have_text("started", timeout=SLOW_MS)

    page.evaluate("window.isSamePage = true")  # what follows is seen without loading the page anew
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#status")).to_contain_text("Canceled", timeout=SLOW_MS)
    expect(page.locator(".files")).to_contain_text("greeting.txt")
    assert page.evaluate("window.isSamePage")

    page.get_by_label("Follow-up").fill("echo '<b>again</b>' > more.txt; echo '<b>ended</b>'")
    page.get_by_label("Follow-up").press("Control+Enter")
    expect(output.last).to_have_text("<b>ended</b>", timeout=SLOW_MS)
    expect(page.locator("#status")).to_contain_text("Succeeded", timeout=SLOW_MS)
    expect(page.get_by_role("table", name="Changed files")).to_contain_text("more.txt")

    with page.expect_download() as download:
        page.get_by_role("link", name="Patch").click()
    patch = download.value.path().read_bytes()
    assert b"+Goodbye\n" in patch
    assert b"+<b>again</b>\n" in patch


def test_a_reader_who_scrolled_up_is_not_moved(page: Page, live_product: Product) -> None:
    submit(page, live_product, "scroll", "seq 200; for i in $(seq 20); do sleep 0.3; echo tick $i; done")
    open_run(page)
    log = page.get_by_role("log")
    expect(log).to_contain_text("tick 1", timeout=SLOW_MS)
    jump = page.get_by_role("link", name="Jump to latest")
    expect(jump).to_be_hidden()
    log.evaluate("element => { element.scrollTop = 50; }")
    expect(jump).to_be_visible()
    expect(log).to_contain_text("tick 10", timeout=SLOW_MS)
    assert log.evaluate("element => element.scrollTop") == 50
    jump.click()
    expect(jump).to_be_hidden()
    expect(log).to_contain_text("tick 20", timeout=SLOW_MS)
    assert log.evaluate(COMES_TO_ITS_END)


def test_a_page_goes_on_where_it_was_when_the_web_server_died(context: BrowserContext, live_product: Product) -> None:
    page = context.new_page()
    submit(page, live_product, "restart", "for i in $(seq 80); do echo tick-$i-; sleep 0.1; done")
    open_run(page)
    log = page.get_by_role("log")
    expect(log).to_contain_text("tick-5-", timeout=SLOW_MS)
    page.evaluate("window.isSamePage = true")
    live_product.kill_web_server()
    expect(log).to_contain_text("tick-80-", timeout=SLOW_MS)
    expect(page.locator("#status")).to_contain_text("Succeeded", timeout=SLOW_MS)
    text = "".join(log.locator("[data-stream=stdout]").all_text_contents())
    assert [int(number) for number in re.findall(r"tick-(\d+)-", text)] == list(range(1, 81))
    assert page.evaluate("window.isSamePage")


def test_a_question_is_asked_before_something_is_lost(page: Page, live_product: Product) -> None:
    submit(page, live_product, "archive", "true")
    page.get_by_role("link", name="Archive…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_role("link", name="Keep it").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("link", name="Archive…").click()
    dialog.get_by_role("button", name="Archive").click()
    page.wait_for_url("/")


def test_everything_but_liveness_works_without_scripts(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Prompt", exact=True).fill("echo hi > new.txt")
        page.locator("#repo-picker > summary").click()
        page.locator("[name=source]").fill(str(live_product.repo("no-scripts")))
        page.get_by_role("button", name="Code").click()
        page.wait_for_url(re.compile(r"/tasks/\d+/$"), timeout=SLOW_MS)
        task = page.url
        for _ in range(100):
            page.reload()
            if page.get_by_text("Succeeded", exact=True).count():
                break
            page.wait_for_timeout(200)  # there is nothing on such a page to wait for
        open_run(page)
        page.get_by_role("link", name="Review changes").click()
        expect(page.locator(".diff tr.a")).to_contain_text("hi")
        page.go_back()
        page.get_by_role("button", name="Retry").click()
        expect(page.locator("#status")).to_contain_text("attempt 2")
        page.goto(task)
        page.get_by_role("link", name="Archive…").click()
        page.get_by_role("button", name="Archive").click()
        page.wait_for_url("/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(browser: Browser, signed_in: Any, live_product: Product, scheme: Any) -> None:
    with browser.new_context(
        storage_state=signed_in, base_url=live_product.url, color_scheme=scheme, viewport={"width": 390, "height": 844}
    ) as context:
        page = context.new_page()
        submit(page, live_product, f"phone-{scheme}", "echo " + 200 * "long")
        task = page.url
        open_run(page)
        for address in ("/", task, page.url, page.url + "#work", "/repos/"):
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
