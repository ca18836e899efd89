"""What all pages have in common: theme, title and icon, keys, messages, and their weight."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.browser.pages import SLOW_MS, open_run, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
STATIC = Path(__file__).parents[2] / "static"
MOST_BYTES = 150_000


# --- theme --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theme", "paper"), [("dark", "rgb(19, 19, 22)"), ("light", "rgb(251, 251, 250)")])
def test_a_chosen_theme_is_stronger_than_the_systems(page: Page, live_product: Product, theme: str, paper: str) -> None:
    live_product.shell(f"from tasks.models import User; User.objects.update(theme={theme!r})")
    page.emulate_media(color_scheme="light" if theme == "dark" else "dark")
    page.goto("/")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == paper
    assert page.locator("meta[name=theme-color]").count() == 1
    live_product.shell("from tasks.models import User; User.objects.update(theme='system')")
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != paper
    assert page.locator("meta[name=theme-color]").count() == 2


def test_nothing_moves_for_those_who_want_it_so(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto("/styleguide")
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.evaluate("getComputedStyle(document.querySelector('.button')).transitionDuration") == "0s"


# --- title and icon -----------------------------------------------------------------------------------------------------


def test_title_and_icon_say_how_a_run_stands(page: Page, live_product: Product) -> None:
    submit(page, live_product, "title", "sleep 4")
    open_run(page)
    expect(page).to_have_title(re.compile(r"^● .+ · asynccode$"), timeout=SLOW_MS)
    icon = page.locator("#favicon")
    expect(icon).to_have_attribute("href", re.compile("icon-running"))
    expect(page).to_have_title(re.compile(r"^✓ .+ · asynccode$"), timeout=SLOW_MS)
    expect(icon).to_have_attribute("href", re.compile("icon-done"))
    assert page.request.get(icon.get_attribute("href") or "").ok


def test_a_failure_shows_in_the_title(page: Page, live_product: Product) -> None:
    submit(page, live_product, "title-failed", "exit 1")
    expect(page).to_have_title(re.compile(r"^✕ .+"), timeout=SLOW_MS)
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile("icon-failed"))


def test_the_bar_counts_what_is_on_its_way(page: Page, live_product: Product) -> None:
    submit(page, live_product, "bar", "sleep 4")
    page.goto("/")
    running = page.locator("#activity [data-status=running]").first
    expect(running).to_have_text(re.compile(r"1\s+running"), timeout=SLOW_MS)
    expect(running).to_be_hidden(timeout=SLOW_MS)


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_keys_lead_through_the_product(page: Page) -> None:
    page.goto("/")
    page.locator("h1").click()  # out of the composer, where letters are text
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/repos/")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_text("Run after this one")).to_be_hidden()  # there is none on this page
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("c")
    page.wait_for_url("**/")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()


def test_letters_that_are_typed_stay_letters(page: Page) -> None:
    page.goto("/repos/")
    field = page.locator("input[type=text]").first
    field.fill("")
    field.press_sequentially("g r ? c")
    expect(field).to_have_value("g r ? c")
    expect(page.locator("#shortcuts")).to_be_hidden()
    page.locator("h1").click()
    page.keyboard.press("Control+g")
    page.keyboard.press("Control+?")
    expect(page.locator("#shortcuts")).to_be_hidden()


def test_keys_can_be_turned_off(page: Page) -> None:
    page.goto("/repos/")
    page.get_by_label("Account").click()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Shortcuts of single keys").uncheck()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.keyboard.press("?")
    expect(page.locator("#shortcuts")).to_be_hidden()
    page.reload()
    page.keyboard.press("?")
    expect(page.locator("#shortcuts")).to_be_hidden()


def test_the_first_tab_leads_past_the_bar(page: Page) -> None:
    page.goto("/repos/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


# --- messages -----------------------------------------------------------------------------------------------------------


def say_something(page: Page) -> None:
    """Anything that is answered with a message on the next page."""
    page.goto("/prompts/new")
    page.get_by_label("Name").fill(f"message {page.evaluate('Math.random()')}")
    page.locator("textarea[name=prompt]").fill("x")
    page.locator("main button[type=submit]").first.click()
    page.locator(".messages .notice").wait_for()


def test_a_message_can_be_sent_away_and_moves_nothing(page: Page) -> None:
    say_something(page)
    top = page.locator("main").bounding_box()
    notice = page.locator(".messages .notice")
    notice.get_by_role("button", name="Dismiss").click()
    expect(notice).to_have_count(0)
    assert page.locator("main").bounding_box() == top


def test_good_news_goes_by_itself(page: Page) -> None:
    page.clock.install()
    say_something(page)
    page.clock.run_for(9000)
    expect(page.locator(".messages .notice")).to_have_count(0)


# --- size ---------------------------------------------------------------------------------------------------------------


def test_text_twice_as_large_breaks_nothing(browser: Browser, signed_in: Any, live_product: Product) -> None:
    """A browser's zoom of 200 % of a window of 1280 px is one of 640 px with twice the pixels."""
    with browser.new_context(
        storage_state=signed_in, base_url=live_product.url, viewport={"width": 640, "height": 430}, device_scale_factor=2
    ) as context:
        page = context.new_page()
        for path in ("/", "/repos/", "/settings/", "/prompts/", "/styleguide"):
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 640, path


def test_every_main_page_weighs_less_than_150_kb(browser: Browser, signed_in: Any, live_product: Product, page: Page) -> None:
    """All a cold browser fetches for a page. Static files are sent compressed; pages are not (a secret beside what somebody
    else wrote must not be compressed with it: BREACH) but a proxy may, so they count as gzip would have them. Both fonts count,
    whether this machine needs them or not."""
    submit(page, live_product, "weight", "echo hello > new.txt")
    task = page.url
    open_run(page)
    run = page.url
    fonts = sum(path.stat().st_size for path in STATIC.glob("fonts/*.woff2"))
    weights = {}
    for address in ("/", task, run, f"{run}changes/", "/repos/", "/settings/", "/prompts/"):
        with browser.new_context(storage_state=signed_in, base_url=live_product.url) as context:
            cold = context.new_page()
            responses: list[Response] = []
            cold.on("response", lambda response, seen=responses: seen.append(response))
            cold.goto(address, wait_until="networkidle")
            weights[address] = fonts + sum(map(weight, responses))
    assert max(weights.values()) < MOST_BYTES, weights


def weight(response: Response) -> int:
    if ".woff2" in response.url:
        return 0
    if response.header_value("content-encoding"):
        return int(response.request.sizes()["responseBodySize"])
    return len(gzip.compress(response.body()))
