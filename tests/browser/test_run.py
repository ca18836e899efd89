"""A run's page: a log of any length is read in place, what is open stays open, and follow-ups come and go."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.pages import SLOW_MS, open_run, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
Shell = Callable[[str], str]

PRELUDE = """
from django.utils import timezone
from tasks.models import *
from tasks.running import events
def write(run, first, last):
    row = Run.objects.get(pk=run)
    assert row.next_seq == first
    data = [{"stream": ("stdout", "stderr")[n % 2], "text": f"line-{n}-\\n"} for n in range(first, last + 1)]
    Event.objects.bulk_create([Event(run=row, seq=first + n, kind="log", data=d) for n, d in enumerate(data[:-1])], batch_size=2000)
    Run.objects.filter(pk=run).update(next_seq=last)
    events.append(run, EventKind.LOG, data[-1])  # which tells the pages
def patch(run, *texts):
    content, files = "", []
    for n, text in enumerate(texts):
        content += f"diff --git a/f{n} b/f{n}\\n--- a/f{n}\\n+++ b/f{n}\\n@@ -1 +1,40 @@\\n" + 40 * f"+{text}\\n"
        files.append({"path": f"f{n}", "old_path": f"f{n}", "state": "modified", "additions": 40, "deletions": 0, "is_binary": False})
    turn = Turn.objects.filter(run=run).first()
    Patch.objects.update_or_create(turn=turn, kind="checkpoint", defaults={
        "run_id": run, "content": content.encode(), "sha256": str(abs(hash(content))), "files": files, "additions": 40 * len(files)})
    events.append(run, EventKind.STATUS, {"patch": "checkpoint", "files": len(files), "additions": 40 * len(files), "deletions": 0})
"""
NEW_RUN = """
owner = User.objects.filter(is_staff=True).order_by("pk").first()
repo, _ = Repo.objects.get_or_create(owner=owner, source="https://example.org/pages", defaults={"name": "pages", "default_branch": "main",
    "removed_at": timezone.now()})
task = Task.objects.create(owner=owner, repo=repo, title="Made by hand", prompt="true", base_branch="main", base_commit=40 * "a")
now = timezone.now()
for attempt in range(1, %d + 1):
    run = Run.objects.create(task=task, agent="shell", attempt=attempt, backend="local", branch=f"b{attempt}", status="succeeded",
        started_at=now, finished_at=now)
    Turn.objects.create(run=run, number=1, prompt="true", author=owner, status="succeeded", started_at=now, finished_at=now)
    print(run.pk)
"""


@pytest.fixture
def shell(live_product: Product) -> Shell:
    return lambda code: str(live_product.shell(PRELUDE + code))


@pytest.fixture
def run(shell: Shell) -> int:
    """A run that is over, without events; it has a sibling."""
    return int(shell(NEW_RUN % 2).split()[0])


def numbers(log: Locator) -> list[int]:
    text = "".join(log.locator(".sheet").all_text_contents())
    return [int(number) for number in re.findall(r"line-(\d+)-", text)]


def first_seq(log: Locator) -> int:
    return int(log.locator(".sheet").first.get_attribute("data-first") or 0)


def await_older(page: Page, first: int) -> None:
    """Until events before `first` have come by themselves."""
    page.wait_for_function("first => Number(document.querySelector('.sheet').dataset.first) < first", arg=first)


def scroll_to_top(log: Locator) -> None:
    log.evaluate("element => { element.scrollTop = 0; }")


# Which line stands at the top of the log's window, and where.
READING = """log => {
  const edge = log.getBoundingClientRect().top;
  const event = [...log.querySelectorAll(".event")].find((each) => each.getBoundingClientRect().top >= edge);
  window.reading = event;
  return event.getBoundingClientRect().top;
}"""
WHERE = "() => window.reading.getBoundingClientRect().top"


def test_ten_thousand_events_are_read_upwards_by_scrolling_without_gap_or_double(page: Page, shell: Shell, run: int) -> None:
    shell(f"write({run}, 1, 10_000)")
    page.goto(f"/runs/{run}/")
    log = page.get_by_role("log")
    expect(log).to_contain_text("line-10000-")
    lowest = 10_001
    while lowest > 1:
        await_older(page, lowest)
        seen = numbers(log)
        assert seen == list(range(seen[0], seen[-1] + 1))
        assert seen[0] < lowest <= seen[-1] + 1
        assert log.locator(".event").count() <= 2500
        lowest = first_seq(log)
        scroll_to_top(log)
    assert numbers(log)[0] == 1

    page.get_by_role("link", name="Jump to latest").click()
    expect(log).to_contain_text("line-10000-")
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 2
    shell(f"write({run}, 10_001, 10_002)")
    expect(log).to_contain_text("line-10002-")


def test_one_who_reads_in_the_middle_is_not_moved(page: Page, shell: Shell, run: int) -> None:
    shell(f"write({run}, 1, 3000)")
    page.goto(f"/runs/{run}/")
    log = page.get_by_role("log")
    expect(log).to_contain_text("line-3000-")
    expect(page.get_by_role("link", name="Jump to latest")).to_be_hidden()

    first = first_seq(log)
    log.evaluate("log => { log.scrollTop = 1500; }")
    before = log.evaluate(READING)
    expect(log.locator(f".sheet[data-first='{first}']")).to_have_count(1)
    log.evaluate("log => { log.scrollTop = 700; }")
    before = log.evaluate(READING)
    await_older(page, first)
    assert abs(page.evaluate(WHERE) - before) <= 1

    shell(f"write({run}, 3001, 3040)")
    expect(page.get_by_role("link", name="Jump to latest")).to_contain_text("40 new")
    assert abs(page.evaluate(WHERE) - before) <= 1
    page.get_by_role("link", name="Jump to latest").click()
    expect(log).to_contain_text("line-3040-")
    expect(page.get_by_role("link", name="Jump to latest")).to_be_hidden()
    shell(f"write({run}, 3041, 3045)")  # at the end one is taken along
    expect(log).to_contain_text("line-3045-")
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 2


def test_the_middle_of_a_log_goes_on_in_both_directions(page: Page, shell: Shell, run: int) -> None:
    shell(f"write({run}, 1, 2500)")
    page.goto(f"/runs/{run}/?after=1000")
    log = page.get_by_role("log")
    expect(log).to_contain_text("line-1001-")
    for top in ("0", "log.scrollHeight", "0", *["log.scrollHeight"] * 7):
        log.evaluate(f"log => {{ log.scrollTop = {top}; }}")
        page.wait_for_function("() => !document.getElementById('log').ariaBusy")
        seen = numbers(log)
        assert seen == list(range(seen[0], seen[-1] + 1))
    expect(log).to_contain_text("line-2500-")
    shell(f"write({run}, 2501, 2502)")
    expect(page.locator("#log")).to_contain_text("line-2502-")


def test_the_list_of_changes_is_fetched_anew_where_one_is(page: Page, shell: Shell, run: int) -> None:
    shell(f"patch({run}, *{['x'] * 60})")
    page.goto(f"/runs/{run}/")
    work = page.locator("#work")
    expect(work.locator(".files tbody tr")).to_have_count(60)
    work.evaluate("element => { element.scrollTop = 400; }")
    shell(f"patch({run}, *{['x'] * 61})")
    expect(work.locator(".files tbody tr")).to_have_count(61)
    assert work.evaluate("element => element.scrollTop") == 400
    work.get_by_role("link", name="Review changes").click()
    page.wait_for_url(f"**/runs/{run}/changes/")


def test_tabs_change_in_place_and_have_addresses(page: Page, shell: Shell, run: int) -> None:
    shell(f"patch({run}, 'one')")
    page.goto(f"/runs/{run}/")
    page.evaluate("window.isSamePage = true")
    tabs = page.get_by_role("navigation", name="What the run did")
    tabs.get_by_role("link", name="Network").click()
    expect(page.get_by_role("heading", name="No attempts")).to_be_visible()
    expect(tabs.locator("[aria-current]")).to_have_text("Network")
    tabs.get_by_role("link", name="Sandbox").click()
    expect(page.get_by_role("heading", name="No sandbox")).to_be_visible()
    assert "tab=sandbox" in page.url
    shell(f"patch({run}, 'one', 'two')")  # news fetch the tab that is open
    expect(tabs.get_by_role("link", name="Changes")).to_contain_text("+80")
    expect(page.get_by_role("heading", name="No sandbox")).to_be_visible()
    assert page.evaluate("window.isSamePage")
    page.reload()
    expect(page.get_by_role("heading", name="No sandbox")).to_be_visible()


def test_neighbors_are_a_key_away_and_the_conversation_folds(page: Page, run: int) -> None:
    page.goto(f"/runs/{run}/")
    page.keyboard.press("]")
    page.wait_for_url(f"**/runs/{run + 1}/")
    page.keyboard.press("[")
    page.wait_for_url(f"**/runs/{run}/")
    fold = page.get_by_role("button", name="Conversation")
    fold.click()
    expect(fold).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_role("log")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("log")).to_be_hidden()
    fold.click()
    expect(page.get_by_role("log")).to_be_visible()


def test_a_follow_up_waits_in_place_and_can_be_removed(page: Page, live_product: Product) -> None:
    submit(page, live_product, "follow-ups", "echo started; sleep 600")
    open_run(page)
    expect(page.get_by_role("log")).to_contain_text("started", timeout=SLOW_MS)
    page.evaluate("window.isSamePage = true")
    field = page.get_by_label("Follow-up", exact=True)
    expect(page.get_by_text("Queue sends it when this turn is over")).to_be_visible()

    page.get_by_role("button", name="Queue").click()
    expect(page.get_by_text("The follow-up is empty.")).to_be_visible()
    field.fill("echo first words\necho more")
    field.press("Control+Enter")
    waiting = page.get_by_role("list", name="Follow-ups that wait")
    expect(waiting).to_contain_text("echo first words", timeout=SLOW_MS)
    expect(field).to_have_value("")
    expect(page.get_by_text("The follow-up is empty.")).to_be_hidden()
    page.get_by_role("button", name="Remove follow-up 2").click()
    expect(waiting).to_be_hidden(timeout=SLOW_MS)

    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#status")).to_contain_text("Canceled", timeout=SLOW_MS)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_hidden()
    expect(page.get_by_text("Queue sends it when this turn is over")).to_be_hidden()
    page.get_by_role("link", name="Sandbox").click()
    expect(page.get_by_role("heading", name="Turn 1")).to_be_visible()
    expect(page.locator(".steps").first).to_contain_text("Agent at work")
    assert page.evaluate("window.isSamePage")

    field.fill("a draft")
    page.wait_for_function("() => Object.values(localStorage).some((value) => value.includes('a draft'))")
    page.reload()
    expect(field).to_have_value("a draft")  # and not what was sent


def test_it_works_without_scripts(browser: Browser, signed_in: Any, live_product: Product, shell: Shell, run: int) -> None:
    shell(f"write({run}, 1, 500); patch({run}, 'one', 'two')")
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"/runs/{run}/")
        expect(page.locator(".files tbody tr")).to_have_count(2)
        page.get_by_role("link", name="Older events").click()
        expect(page.get_by_role("log")).to_contain_text("line-1-")
        page.get_by_role("link", name="Newer events").click()
        expect(page.get_by_role("log")).to_contain_text("line-500-")
        page.get_by_role("link", name="Network").click()
        expect(page.get_by_role("heading", name="No attempts")).to_be_visible()
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("The follow-up is empty.")).to_be_visible()


def test_a_phone_has_one_bar_for_the_conversation_and_the_work(
    browser: Browser, signed_in: Any, live_product: Product, shell: Shell, run: int
) -> None:
    shell(f"write({run}, 1, 20); patch({run}, 'one')")
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, viewport={"width": 360, "height": 640}) as context:
        page = context.new_page()
        page.goto(f"/runs/{run}/")
        bar = page.get_by_role("navigation", name="Parts of this page")
        expect(page.get_by_role("navigation", name="What the run did")).to_be_hidden()
        bar.get_by_role("link", name="Network").click()
        expect(page.get_by_role("heading", name="No attempts")).to_be_visible()
        expect(bar.locator("[aria-current]")).to_have_text("Network")
        expect(page.get_by_role("link", name="Patch")).to_be_visible()
        bar.get_by_role("link", name="Conversation").click()
        expect(page.get_by_role("log")).to_be_visible()
        expect(page.get_by_role("heading", name="No attempts")).to_be_hidden()


@pytest.mark.parametrize("tab", ["changes", "network", "sandbox"])
def test_no_side_is_wider_than_a_small_phone(
    browser: Browser, signed_in: Any, live_product: Product, shell: Shell, run: int, tab: str
) -> None:
    shell(f"write({run}, 1, 20); patch({run}, 'one' * 100, 'two')")
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, viewport={"width": 360, "height": 640}) as context:
        page = context.new_page()
        for address in (f"/runs/{run}/?tab={tab}", f"/runs/{run}/?tab={tab}#work"):
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            for side in ("#conversation", "#work"):
                assert page.locator(side).evaluate("element => element.scrollWidth <= element.clientWidth")
        expect(page.get_by_role("log")).to_be_hidden()
        page.get_by_role("link", name="Conversation").click()
        send = page.get_by_role("button", name="Send")
        expect(send).to_be_in_viewport()
