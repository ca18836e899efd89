"""The page of a run's changes in a browser: keys, lines that come as one scrolls, addresses of lines, and changes while one reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import SLOW_MS

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
Shell = Callable[[str], str]
PRELUDE = """
from tests.browser.changes import again, make
from tasks.models import *
from tasks.review.diffs import anchor
def text(lines, *changed): return "".join(f"line {n}{' changed' if n in changed else ''}\\n" for n in range(lines)).encode()
"""
MANY = "make({f'{n:02}.txt': text(300) for n in range(20)}, {f'{n:02}.txt': text(300, *range(60, 160, 2)) for n in range(20)})"
EDGE = "() => document.getElementById('changes-bar').getBoundingClientRect().bottom"


@pytest.fixture
def shell(live_product: Product) -> Shell:
    return lambda code: str(live_product.shell(PRELUDE + code)).strip()


def name(shell: Shell, path: str) -> str:
    return shell(f"print(anchor({path!r}))")


def top(page: Page, selector: str) -> float:
    return float(page.evaluate("selector => document.querySelector(selector).getBoundingClientRect().top", selector))


def test_lines_come_as_one_scrolls_and_keys_lead_through_them(page: Page, shell: Shell) -> None:
    run = shell(f"print({MANY})")
    page.goto(f"/runs/{run}/changes/")
    current = page.locator("#tree-list [aria-current]")
    loaded = page.locator(".lines-of[data-loaded]")
    expect(page.locator(".changed-file")).to_have_count(20)
    assert loaded.count() < 15
    for key, path in (("j", "01.txt"), ("j", "02.txt"), ("k", "01.txt")):
        page.keyboard.press(key)
        expect(current).to_have_attribute("data-name", path)
    first = page.locator(".changed-file").nth(1)
    page.keyboard.press("n")  # its first change
    line = first.locator("tr.d").first
    expect(line).to_be_in_viewport()
    assert abs(line.evaluate("row => row.getBoundingClientRect().top") - page.evaluate(EDGE) - 60) <= 1
    page.keyboard.press("n")
    page.keyboard.press("p")
    assert abs(line.evaluate("row => row.getBoundingClientRect().top") - page.evaluate(EDGE) - 60) <= 1

    page.keyboard.press("o")
    expect(first.locator(".diff")).to_be_hidden()
    page.keyboard.press("o")
    expect(first.locator(".diff")).to_be_visible()
    page.keyboard.press("v")
    expect(page.locator("#viewed-count")).to_contain_text("1 of 20")
    expect(first.locator(".diff")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog").get_by_text("Mark the file as viewed")).to_be_visible()
    expect(page.get_by_role("dialog").get_by_text("Write a prompt")).to_be_hidden()
    page.keyboard.press("Escape")

    page.keyboard.press("t")
    page.keyboard.type("19")
    expect(page.locator("#tree-list li:visible")).to_have_count(1)
    page.keyboard.press("Enter")
    last = page.locator(".changed-file").last
    expect(last.locator(".diff")).to_be_visible()
    page.reload()
    expect(page.locator("#viewed-count")).to_contain_text("1 of 20")


def test_of_ten_thousand_files_those_come_where_one_jumps_to_without_waiting_for_all_between(page: Page, shell: Shell) -> None:
    run = shell("print(make({'a': b''}, {f'{n:05}/f.txt': text(90 if n < 300 else 1) for n in range(10_000)}))")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/changes/files" in request.url else None)
    page.goto(f"/runs/{run}/changes/")
    expect(page.get_by_text("10,000 files")).to_be_visible()
    expect(page.locator(".changed-file")).to_have_count(300)
    page.keyboard.press("t")
    page.keyboard.type("00299")
    page.keyboard.press("Enter")
    last = page.locator(".changed-file").last
    expect(last.locator("tr.a").first).to_be_in_viewport(timeout=SLOW_MS)
    assert sum(url.count("file=") for url in asked) < 150, "what lies between is not fetched"


def test_a_line_has_an_address_that_opens_its_file_and_what_is_between_changes(page: Page, shell: Shell) -> None:
    run = shell(f"print({MANY})")
    file = name(shell, "17.txt")
    page.goto(f"/runs/{run}/changes/#{file}-R250-R252")
    chosen = page.locator("tr[data-chosen]")
    expect(chosen).to_have_count(3, timeout=SLOW_MS)
    expect(chosen.first).to_be_in_viewport()
    expect(chosen.first).to_contain_text("line 249")
    page.locator(f"[id='{file}-R254']").click()
    expect(chosen).to_have_count(1)
    page.locator(f"[id='{file}-R257']").click(modifiers=["Shift"])
    expect(chosen).to_have_count(4)
    assert page.url.endswith(f"#{file}-R254-R257")

    gap = page.locator(f"[id='{file}'] tr.g").first
    gap.get_by_role("button", name="20 more lines above what is below").click()
    expect(gap).to_contain_text("37 lines", timeout=SLOW_MS)
    gap.get_by_role("link").click()
    expect(page.locator(f"[id='{file}-R1']")).to_be_attached(timeout=SLOW_MS)

    page.get_by_role("textbox", name="Search changes").fill("line 60 changed")
    page.locator(".found-line").nth(3).click()
    expect(chosen.filter(has_text="line 60 changed")).to_have_count(1, timeout=SLOW_MS)
    expect(chosen).to_be_in_viewport()
    page.get_by_role("button", name="Split").click()
    expect(page.locator(".diff.split").first).to_be_visible()
    page.locator("main").click(position={"x": 2, "y": 2})
    page.keyboard.press("x")
    expect(page.locator(".diff.unified").first).to_be_visible()


def test_new_changes_are_taken_in_without_moving_what_is_read(page: Page, shell: Shell) -> None:
    files = "{f'{n}.txt': text(60, *range(%d, 40)) for n in range(1, 5)}"
    run = shell(f"print(make({{}}, {files % 0}, status='running'))")
    page.goto(f"/runs/{run}/changes/")
    one, two, three, four, new = (name(shell, f"{n}.txt") for n in (1, 2, 3, 4, 0))
    page.locator(f"[id='{one}'] .toggle").click()
    page.locator(f"[id='{two}'] [name=viewed]").click()
    page.locator(f"[id='{four}']").evaluate("element => { element.isThis = true; element.scrollIntoView(); }")
    before = top(page, f"#{four}-R30")
    shell(f"again({run}, {{'0.txt': text(50), '2.txt': text(70), '3.txt': text(80)}})")
    news = page.locator("#show-news")
    expect(news).to_contain_text("5 files", timeout=SLOW_MS)
    assert top(page, f"#{four}-R30") == before
    news.click()
    expect(page.locator(f"[id='{new}']")).to_be_attached()
    expect(page.locator(f"[id='{three}-R80']")).to_be_attached()
    assert abs(top(page, f"#{four}-R30") - before) <= 1
    assert page.evaluate("id => document.getElementById(id).isThis", four)
    expect(page.locator(f"[id='{one}']")).to_have_attribute("data-closed", "")
    expect(page.locator(f"[id='{two}'] [name=viewed]")).not_to_be_checked()
    expect(page.locator("#viewed-count")).to_contain_text("0 of 5")
    expect(news).to_have_count(0)
    expect(page.locator("#tree-list a")).to_have_count(5)


def test_hostile_names_and_lines_run_nothing(page: Page, shell: Shell) -> None:
    run = shell(r"""print(make({}, {
        '<img src=x onerror=window.isHacked=1>.txt': b"<script>window.isHacked = 1</script>\n\x1b[2J",
        "quo'te\"\n.txt": b"x", "long.txt": b"y" * 5_000_000, "evil.png": b"\0<svg onload='window.isHacked=1'>",
    }))""")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(f"/runs/{run}/changes/")
    expect(page.locator(".changed-file")).to_have_count(4)
    expect(page.locator(".diff").first).to_be_visible()
    page.keyboard.press("j")
    assert not page.evaluate("window.isHacked")
    assert not dialogs


def test_a_phone_shows_both_sides_in_one_column_and_a_narrow_window_scrolls_them(
    browser: Browser, signed_in: Any, live_product: Product, shell: Shell
) -> None:
    shell("User.objects.update(diff_form='split')")
    run = shell("print(make({'a.txt': b'same\\none\\n'}, {'a.txt': b'same\\ntwo\\n'}))")
    narrow = {"storage_state": signed_in, "base_url": live_product.url, "viewport": {"width": 360, "height": 640}}
    try:
        with browser.new_context(**narrow) as context:
            page = context.new_page()
            page.goto(f"/runs/{run}/changes/")
            lines = page.locator(".lines-of:has(.diff.split)")
            assert lines.evaluate("element => element.scrollWidth > 2 * element.clientWidth")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
        with browser.new_context(**narrow, user_agent="Mozilla/5.0 (Android 16; Mobile; rv:150.0) Gecko/150.0 Firefox/150.0") as context:
            page = context.new_page()
            page.goto(f"/runs/{run}/changes/")
            expect(page.locator(".diff.unified tr.d")).to_have_text(re.compile("one"))
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            expect(page.locator("#tree-list")).to_be_hidden()
            page.get_by_role("button", name="Files").click()
            page.locator("#tree-list a").click()
            expect(page.locator("#tree-list")).to_be_hidden()
    finally:
        shell("User.objects.update(diff_form='unified')")
