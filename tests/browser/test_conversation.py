"""A run's conversation in the browser: it grows piece by piece, opens in place, and can be read without scripts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py

HOSTILE = """'"] , .event[x="</div><script>alert(1)</script>"""
MAKE_RUN = """
from django.utils import timezone
from tasks.models import *
user = User.objects.get(is_staff=True)
repo = Repo.objects.get_or_create(owner=user, source="https://example.org/r", name="r", defaults={"mirrored_at": timezone.now()})[0]
task = Task.objects.create(owner=user, repo=repo, title="A conversation", prompt="Do it", base_commit="a" * 40)
run = Run.objects.create(task=task, agent="shell", backend="local", branch="b", status="running", stage="agent", started_at=timezone.now())
Turn.objects.create(run=run, number=1, prompt="Do it", author=user, status="running")
print(run.pk)
"""
WRITE = """
import json
from tasks.models import *
from tasks.running import events
run = Run.objects.get(pk={run})
for kind, data in json.loads({rows!r}):
    events.append(run.pk, kind, data, turn_id=run.turns.get().pk)
"""


@pytest.fixture
def run(live_product: Product) -> int:
    return int(live_product.shell(MAKE_RUN))


def write(product: Product, run: int, *rows: tuple[str, dict[str, Any]]) -> None:
    product.shell(WRITE.format(run=run, rows=json.dumps(rows)))


def plan(*steps: str) -> tuple[str, dict[str, Any]]:
    return "plan", {"entries": [{"content": f"Step {number}", "status": status} for number, status in enumerate(steps, 1)]}


def test_what_arrives_joins_what_is_there(page: Page, live_product: Product, run: int) -> None:
    write(
        live_product,
        run,
        ("status", {"status": "starting"}),
        plan("in_progress", "pending"),
        ("thought", {"id": "t", "chunk": "Let me "}),
        ("tool_call", {"id": HOSTILE, "tool": "execute", "input": {"command": "pytest -q"}}),
        ("message", {"id": HOSTILE, "chunk": "The **storage** "}),
    )
    page.goto(f"/runs/{run}/")
    log = page.get_by_role("log")
    call = log.locator("[data-look=tool]")
    expect(call).to_contain_text("running")
    expect(log.locator("[data-look=message]")).to_have_attribute("aria-live", "off")
    expect(log.get_by_text("Step 1")).to_be_visible()

    write(live_product, run, ("message", {"id": HOSTILE, "chunk": "may send <b>"}), ("thought", {"id": "t", "chunk": "look"}))
    expect(log.locator("[data-look=message] .text")).to_have_text("The **storage** may send <b>")
    expect(log.locator("[data-look=thought] .text")).to_have_text("Let me look")

    write(
        live_product,
        run,
        ("tool_result", {"id": HOSTILE, "is_error": True, "exit_code": 1, "output": "\x1b[31mred\x1b[0m", "seconds": 4.8}),
        ("message", {"id": HOSTILE, "text": "The **storage** may send `x`"}),
        ("thought", {"id": "t", "text": "Let me look"}),
        plan("completed", "in_progress"),
    )
    expect(log.locator("[data-look=message] strong")).to_have_text("storage")
    expect(log.locator("[data-look=message]")).to_have_count(1)
    expect(log.locator("[data-look=thought]")).to_have_count(1)
    expect(log.locator("[data-look=thought] summary")).to_contain_text("Thought for")
    expect(call).to_have_count(1)
    expect(call.locator("summary")).to_contain_text("exit 1")
    expect(call.locator("summary")).to_contain_text("4.8 s")
    expect(call).not_to_contain_text("running")
    call.locator("summary").click()
    expect(call.locator(".ink-1")).to_be_visible()
    expect(log.locator("[data-look=plan] details[open]")).to_have_count(1)
    expect(log.locator("[data-look=plan] summary").first).to_have_text("Plan, 0 of 2 done")


def test_a_stage_says_how_long_it_took_once_it_is_over(page: Page, live_product: Product, run: int) -> None:
    write(live_product, run, ("status", {"stage": "setup"}))
    page.goto(f"/runs/{run}/")
    stages = page.get_by_role("log").locator("[data-look=divider]")
    expect(stages).to_have_count(1)
    expect(stages.locator(".took")).to_have_count(0)
    write(live_product, run, ("status", {"stage": "agent"}))
    expect(stages.first.locator(".took")).to_have_text(re.compile(r"^\d+(\.\d)? s$"))
    write(live_product, run, ("status", {"status": "failed", "error": "It broke."}))
    expect(stages.locator(".took")).to_have_count(2)


def test_a_result_finds_the_call_that_is_fetched_later(page: Page, live_product: Product, run: int) -> None:
    lines = [("log", {"stream": stream, "text": f"{number}\n"}) for number in range(300) for stream in ("stdout", "stderr")]
    write(live_product, run, ("tool_call", {"id": "far", "tool": "read", "title": "Read far.py"}), *lines)
    write(live_product, run, ("tool_result", {"id": "far", "output": "found", "seconds": 1}))
    page.goto(f"/runs/{run}/")
    log = page.get_by_role("log")
    for before in (303, 3):  # each page comes when the reader has come to the top of the one below it
        with page.expect_response(re.compile(rf"before={before}$")):
            log.evaluate("element => { element.scrollTop = 0; }")
        expect(log.locator(f"[rel=prev][href$='before={before}']")).to_have_count(0)
    expect(log.locator("[data-look=tool] summary")).to_contain_text("far.py")
    expect(log.locator("[data-look=tool]")).to_have_count(1)
    expect(log.locator("[data-look=tool] summary")).to_contain_text("1.0 s")


def test_long_output_is_unfolded_and_fetched_in_place(page: Page, live_product: Product, run: int) -> None:
    output = "".join(f"line {number}\n" for number in range(5_000))
    write(
        live_product,
        run,
        ("tool_call", {"id": "a", "tool": "execute", "input": "seq"}),
        ("tool_result", {"id": "a", "output": output}),
        ("message", {"text": "word " * 6_000 + "at last"}),
    )
    page.goto(f"/runs/{run}/")
    page.evaluate("window.isSamePage = true")
    call = page.get_by_role("log").locator("[data-look=tool]")
    call.locator("summary").first.click()
    folded = call.locator(".output").last.bounding_box()
    call.get_by_text("Show more").click()
    unfolded = call.locator(".output").last.bounding_box()
    assert folded
    assert unfolded
    assert unfolded["height"] > 10 * folded["height"]
    call.get_by_role("link", name="Show all").click()
    expect(call.locator(".output").last).to_contain_text("line 4999")
    message = page.get_by_role("log").locator("[data-look=message]")
    message.get_by_role("link", name="Show all").click()
    expect(message).to_contain_text("at last")
    expect(message.get_by_role("link", name="Show all")).to_have_count(0)
    assert page.evaluate("window.isSamePage")


def test_without_scripts_a_conversation_can_be_read(
    browser: Browser, signed_in: dict[str, object], live_product: Product, run: int
) -> None:
    write(
        live_product,
        run,
        ("thought", {"text": "Let me look\n\nfurther"}),
        ("tool_call", {"id": "a", "tool": "execute", "input": "seq"}),
        ("tool_result", {"id": "a", "output": "x" * 30_000 + "end"}),
    )
    with browser.new_context(
        storage_state=signed_in,  # type: ignore[arg-type]
        base_url=live_product.url,
        java_script_enabled=False,
    ) as context:
        page = context.new_page()
        page.goto(f"/runs/{run}/")
        page.locator("[data-look=thought] summary").click()
        expect(page.get_by_text("further", exact=True)).to_be_visible()
        page.locator("[data-look=tool] summary").click()
        page.locator("[data-look=tool]").get_by_role("link", name="Show all").click()
        expect(page.locator(".output")).to_contain_text("xend")


def test_nothing_is_fetched_from_elsewhere(context: BrowserContext, live_product: Product, run: int) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    text = "![pixel](https://evil.example/x.png) <img src=https://evil.example/y.png> [link](javascript:alert(1)) https://evil.example"
    write(live_product, run, ("message", {"text": text}), ("thought", {"text": text}))
    page = context.new_page()
    page.goto(f"/runs/{run}/")
    link = page.get_by_role("log").get_by_role("link", name="Image: pixel").first
    expect(link).to_have_attribute("rel", "nofollow noopener noreferrer")
    assert all(url.startswith(live_product.url) for url in asked)
