"""Comments on lines of a run's changes in a browser: ranges, what the next turn answers, and forms that outlast what comes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.pages import SLOW_MS, open_run, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
Shell = Callable[[str], str]
PRELUDE = """
from tests.browser.changes import again, make
from tasks.models import *
from tasks.review.diffs import anchor
def text(lines, *changed): return "".join(f"line {n}{' changed' if n in changed else ''}\\n" for n in range(lines)).encode()
"""


@pytest.fixture
def shell(live_product: Product) -> Shell:
    return lambda code: str(live_product.shell(PRELUDE + code)).strip()


def drag(page: Page, start: Locator, end: Locator) -> None:
    for place, act in ((start, page.mouse.down), (end, page.mouse.up)):
        box = place.bounding_box()
        assert box
        page.mouse.move(box["x"] + 8, box["y"] + 8, steps=4)
        act()


def below(page: Page, line: str) -> Locator:
    """What is said of a line."""
    return page.locator(f"[id='{line}'] >> xpath=../following-sibling::tr[1][@class='said']")


def save(form: Locator, text: str) -> None:
    form.get_by_role("textbox", name="Comment").fill(text)
    form.get_by_role("button", name="Save draft").click()
    expect(form).to_have_count(0, timeout=SLOW_MS)


def test_drafts_on_ranges_are_sent_together_and_answered_or_outdated_by_the_next_turn(
    page: Page, live_product: Product, shell: Shell
) -> None:
    submit(page, live_product, "shop", "seq 1 40 > a.txt; seq 1 9 > b.txt")
    open_run(page)
    page.get_by_role("link", name="Review changes").click(timeout=SLOW_MS)
    a, b = shell("print(anchor('a.txt'), anchor('b.txt'))").split()
    writing, comments = page.locator(".writing"), page.locator("article.comment")
    page.locator("[data-ready]").wait_for()
    page.locator(f"[id='{a}-R1']").hover()
    page.locator(f"[id='{a}-R2']").hover()
    drag(page, page.get_by_role("button", name="Comment on line 2"), page.locator(f"[id='{a}-R4']"))
    expect(writing.get_by_label("Lines")).to_have_value("2")
    expect(writing.get_by_label("to", exact=True)).to_have_value("4")
    save(writing, "Say *two*.")
    expect(below(page, f"{a}-R4")).to_contain_text("Say two.")
    page.locator(f"[id='{b}-R5']").click()
    page.keyboard.press("c")
    expect(page.get_by_role("textbox", name="Comment")).to_be_focused()
    page.keyboard.type("Why five?")
    page.keyboard.press("Control+Enter")
    expect(comments).to_have_count(2, timeout=SLOW_MS)

    page.get_by_text("2 drafts").click()
    page.get_by_role("textbox", name="Message").fill("sed -i 's/^3$/three/' a.txt; exit 0")
    page.get_by_role("button", name="Send to the agent").click()
    expect(page.locator("#messages")).to_contain_text("They are turn 2", timeout=SLOW_MS)
    expect(comments).to_have_count(2)
    prompt = shell("print(Turn.objects.latest('pk').prompt)")
    assert "1. `a.txt`, lines 2–4:\n\n```\n2\n3\n4\n```\n\nSay *two*." in prompt
    assert "2. `b.txt`, line 5:\n\n```\n5\n```\n\nWhy five?" in prompt
    page.get_by_role("button", name="New changes").click(timeout=SLOW_MS)
    outdated = comments.filter(has_text="outdated")
    expect(outdated).to_contain_text("answered by turn 2", timeout=SLOW_MS)
    outdated.locator("summary").click()
    expect(outdated.locator(".quote")).to_have_text("2\n3\n4")
    expect(below(page, f"{b}-R5")).to_contain_text("answered by turn 2")
    comments.filter(has_text="Why five?").get_by_role("link", name="answered").click()
    expect(page).to_have_url(re.compile(r"/runs/\d+/.*#turn-2"))


def test_what_is_being_written_outlasts_new_changes(page: Page, shell: Shell) -> None:
    run = shell("print(make({}, {'a.txt': text(30), 'b.txt': text(30), 'c.txt': text(30)}, status='running'))")
    a, b, c = shell("print(*map(anchor, ('a.txt', 'b.txt', 'c.txt')))").split()
    page.goto(f"/runs/{run}/changes/#{a}-R3")
    page.locator("[data-ready]").wait_for()
    writing, comments = page.locator(".writing"), page.locator("article.comment")
    page.keyboard.press("c")
    save(writing, "First")
    comments.get_by_text("Edit").click()
    comments.get_by_role("textbox", name="Comment").fill("First, but other")
    for file, number in ((b, 7), (c, 9)):
        page.locator(f"[id='{file}-R{number}']").click()
        page.get_by_role("button", name=f"Comment on line {number}").click()
        writing.last.get_by_role("textbox", name="Comment").fill(f"On {number}")
    shell(f"again({run}, {{'a.txt': b'new\\n' + text(30), 'b.txt': text(40), 'c.txt': None}})")
    page.get_by_role("button", name="New changes").click(timeout=SLOW_MS)
    expect(page.locator(f"[id='{c}']")).to_have_count(0, timeout=SLOW_MS)
    expect(below(page, f"{a}-R4").get_by_role("textbox", name="Comment")).to_have_value("First, but other")
    expect(below(page, f"{b}-R7").get_by_role("textbox", name="Comment")).to_have_value("On 7")
    expect(page.locator("#other-comments").get_by_role("textbox", name="Comment")).to_have_value("On 9")
    page.locator(f"[id='{a}']").get_by_role("button", name="Save", exact=True).click()
    expect(comments.filter(has_text="First, but other").get_by_text("Edit")).to_be_visible(timeout=SLOW_MS)
    save(page.locator("#other-comments .writing"), "Why is it gone?")
    expect(page.get_by_text("2 drafts")).to_be_visible()
    expect(page.locator("#other-comments")).to_contain_text("Why is it gone?")


def test_how_a_comment_stands_is_shown_though_its_turn_changes_nothing(page: Page, shell: Shell) -> None:
    run = shell("print(make({}, {'a.txt': text(30)}))")
    a = shell("print(anchor('a.txt'))")
    shell(f"""
from tasks.review.diffs import files
from tasks.review.trees import Change
run = Run.objects.get(pk={run})
(file,) = Change(run.task, None, Patch.objects.get(run=run)).ask(files)
turn = Turn.objects.create(run=run, number=2, prompt="x", author=run.task.owner, status="running")
lines = {{"start_line": 3, "end_line": 3, "side": "new", "author": run.task.owner, "run": run, "turn": turn}}
Comment.objects.create(**lines, file=file.anchor, path=file.path, blob=file.change.new_blob, quote="x", body="Why?")
""")
    page.goto(f"/runs/{run}/changes/#{a}-R3")
    page.locator("[data-ready]").wait_for()
    expect(below(page, f"{a}-R3")).to_contain_text("the agent is at it")
    shell(f"""
from tasks.running import nudge
Turn.objects.filter(run={run}, number=2).update(status="waiting")
Run.objects.filter(pk={run}).update(status="waiting")
nudge.tell([nudge.run_group({run})])
""")
    expect(below(page, f"{a}-R3")).to_contain_text("answered by turn 2", timeout=SLOW_MS)
    expect(page.locator("#show-news")).to_have_count(0)


def test_what_is_said_stands_where_its_lines_come(page: Page, shell: Shell) -> None:
    run = shell("print(make({'a.txt': text(200)}, {'a.txt': text(200, 2, 190), 'yarn.lock': text(9)}))")
    a, lock = shell("print(*map(anchor, ('a.txt', 'yarn.lock')))").split()
    fields = "'start_line': 100, 'end_line': 101, 'side': 'new', 'author': User.objects.get(is_staff=True), 'run_id': " + run
    shell(f"""
from tasks.review.diffs import files
from tasks.review.trees import Change
for file in Change(Run.objects.get(pk={run}).task, None, Patch.objects.get(run={run})).ask(files):
    lines = {{{fields}}} | ({{'start_line': 2, 'end_line': 2}} if file.path == 'yarn.lock' else {{}})
    Comment.objects.create(**lines, file=file.anchor, path=file.path, blob=file.change.new_blob, quote='x', body='On ' + file.path)
""")
    page.goto(f"/runs/{run}/changes/")
    heads = page.locator(".comments > article")
    expect(heads).to_have_count(2)
    page.locator(f"[id='{a}'] tr.g").nth(0).get_by_role("link").click()
    expect(below(page, f"{a}-R101")).to_contain_text("On a.txt", timeout=SLOW_MS)
    page.get_by_text("2 drafts").click()
    page.get_by_role("link", name="yarn.lock, line 2").click()  # its lines come for it
    expect(page.locator(f"[id='{lock}'] tr.said")).to_contain_text("On yarn.lock", timeout=SLOW_MS)
    expect(page.locator(f"[id='{lock}'] article")).to_be_in_viewport()
    page.locator(f"[id='{a}'] .toggle").click()
    expect(heads).to_have_count(1)
    expect(heads).to_contain_text("On a.txt")
    page.get_by_role("button", name="Split").click()
    expect(page.locator(".diff.split").first).to_be_visible()
    page.locator(f"[id='{a}'] tr.g").nth(0).get_by_role("link").click()
    expect(page.locator(f"[id='{a}'] tr.said")).to_contain_text("On a.txt", timeout=SLOW_MS)
