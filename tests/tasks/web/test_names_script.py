"""Fields for several names: chips, and a list that is searched as one types. The script alone, with a server of two answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

SCRIPT = Path(__file__).resolve().parents[3] / "static/js/names.js"
ADDRESS = "http://names.invalid/"
PAGE = f"""<!doctype html><form><div class="names" data-names="/found?of=labels" data-label="Labels">
<label for="id_labels">Labels</label><input id="id_labels" name="labels" value="old, b&quot;c"><p class="hint">With commas.</p></div>
<button>Send</button></form><script>{SCRIPT.read_text()}</script>"""
NAMES = ("bug", "big", "good first issue")


def answer(route: Route) -> None:
    address = urlsplit(route.request.url)
    if address.path != "/found":
        route.fulfill(body=PAGE, content_type="text/html")
        return
    asked = parse_qs(address.query).get("q", [""])[0]
    found = [name for name in NAMES if asked in name]
    body = "".join(f'<div role="option" class="option" data-name="{name}"><span>{name}</span></div>' for name in found)
    route.fulfill(body=body or '<p class="quiet">Nothing of that name.</p>', content_type="text/html")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/*", answer)
        page.goto(ADDRESS)
        yield page


def sent(page: Page) -> str:
    return page.locator("[name=labels]").input_value()


def test_names_are_chosen_and_taken_away_by_keyboard(page: Page) -> None:
    box, options = page.get_by_role("combobox", name="Labels"), page.get_by_role("option")
    box.press_sequentially("i")
    expect(options).to_have_count(2)
    expect(box).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert sent(page) == 'old, b"c, good first issue'
    page.keyboard.press("ArrowDown")
    expect(options).to_have_count(2)  # without the one that is there
    page.keyboard.press("Escape")
    expect(box).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    assert sent(page) == "old"
    page.get_by_role("button", name="Remove old").click()
    assert sent(page) == ""


def test_who_types_faster_than_the_list_comes_gets_what_was_meant(page: Page) -> None:
    box = page.get_by_role("combobox", name="Labels")
    box.press_sequentially("bu")
    page.keyboard.press("Enter")
    box.press_sequentially("goo")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove good first issue")).to_be_visible()
    expect(page.get_by_role("button", name="Remove bug")).to_be_visible()
    assert sent(page) == 'old, b"c, bug, good first issue'


def test_what_is_typed_otherwise_is_kept_too(page: Page) -> None:
    box = page.get_by_role("combobox", name="Labels")
    box.fill("mine, bug,")
    assert sent(page) == 'old, b"c, mine, bug'
    box.fill("left")
    page.get_by_role("button", name="Send").focus()
    assert sent(page) == 'old, b"c, mine, bug, left'
