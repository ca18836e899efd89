"""What one does with a run's turns, in the browser: by keyboard, on a phone, without scripts; and nothing typed is lost."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py

PLAN = "## Steps\n\n1. Count **confirmed** parts\n2. Tests"
MAKE_RUN = """
from django.utils import timezone
from tasks.models import *
from tasks.running import events
user = User.objects.get(is_staff=True)
repo = Repo.objects.get_or_create(owner=user, source="https://example.org/r", name="r", defaults={"mirrored_at": timezone.now()})[0]
task = Task.objects.create(owner=user, repo=repo, title="Uploads", prompt="Do it", base_commit="a" * 40, mode="MODE")
run = Run.objects.create(task=task, agent="claude", backend="local", branch="b", status="STATUS", started_at=timezone.now())
for number, mode in enumerate(TURNS, 1):
    is_last = number == len(TURNS)
    status = "running" if is_last and run.status == "running" else "succeeded"
    turn = Turn.objects.create(run=run, number=number, prompt=f"prompt {number}", author=user, status=status, mode=mode,
        answer="ANSWER" if mode == "plan" else "", started_at=timezone.now(), generation=1)
    events.append(run.pk, "status", {"status": "starting"}, turn_id=turn.pk)
    events.append(run.pk, "log", {"stream": "stdout", "text": "line\\n" * 30}, turn_id=turn.pk)
    if status != "running":
        events.append(run.pk, "status", {"status": run.status if is_last else "succeeded"}, turn_id=turn.pk)
print(run.pk)
"""
STATE_OF = """
from tasks.models import *
print(list(Turn.objects.filter(run={run}).order_by("number").values_list("number", "mode", "prompt", "status")))
"""
END = """
from tasks.models import *
from tasks.running import lifecycle
lifecycle.finish({run}, source=[RunStatus.RUNNING], to=RunStatus.CANCELED)
"""


def make_run(product: Product, status: str, *turns: str) -> int:
    mode = turns[-1]
    code = MAKE_RUN.replace("STATUS", status).replace("TURNS", json.dumps(turns)).replace("MODE", mode)
    return int(product.shell(code.replace('"ANSWER"', json.dumps(PLAN))))


def test_a_plan_is_edited_kept_and_approved_by_keyboard(page: Page, live_product: Product) -> None:
    run = make_run(live_product, "waiting", "plan")
    page.goto(f"/runs/{run}/")
    work = page.locator("#work")
    expect(work.locator("strong")).to_have_text("confirmed")
    work.locator("#edit-plan > summary").focus()
    page.keyboard.press("Enter")
    plan = work.get_by_role("textbox")
    expect(plan).to_be_focused()
    expect(work.locator("strong")).to_be_hidden()
    page.keyboard.press("Control+End")
    page.keyboard.type("\n3. The changelog")
    page.wait_for_function("() => Object.keys(localStorage).some(key => key.startsWith('draft:plan-'))")
    page.reload()
    expect(plan).to_have_value(f"{PLAN}\n3. The changelog")
    plan.press("Control+Enter")
    expect(page.get_by_role("button", name="Approve and go on")).to_have_count(0)
    said = live_product.shell(STATE_OF.format(run=run))
    assert "3. The changelog" in said
    assert "(2, 'code'" in said


def test_while_a_turn_is_at_work_a_follow_up_waits_unless_one_says_otherwise(page: Page, live_product: Product) -> None:
    run = make_run(live_product, "running", "code")
    page.goto(f"/runs/{run}/")
    form = page.locator("#follow-up")
    expect(form.get_by_role("button", name="Queue")).to_be_visible()
    expect(form.get_by_role("button", name="Send now")).to_be_visible()
    form.get_by_label("Follow-up").fill("Then the changelog")
    form.get_by_label("Follow-up").press("Control+Enter")
    waiting = page.get_by_role("list", name="Follow-ups that wait")
    expect(waiting).to_contain_text("Then the changelog")
    expect(waiting.get_by_role("button", name="Send now")).to_be_visible()
    expect(form.get_by_label("Mode")).to_have_value("code")
    waiting.get_by_role("button", name="Remove").click()
    expect(waiting).to_have_count(0)
    live_product.shell(END.format(run=run))
    expect(form.get_by_role("button", name="Send", exact=True)).to_be_visible()
    expect(form.get_by_role("button", name="Send now")).to_be_hidden()


def test_a_branch_is_made_by_keyboard_and_leads_back_to_its_turn(page: Page, live_product: Product) -> None:
    run = make_run(live_product, "succeeded", "code", "code", "code")
    page.goto(f"/runs/{run}/")
    menu = page.locator("#turn-2")
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(menu.get_by_role("link", name="Go back to here")).to_be_visible()
    page.keyboard.press("Escape")
    expect(menu.get_by_role("link", name="Branch from here")).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_label("Prompt").fill("Another way")
    page.get_by_label("Prompt").press("Control+Enter")
    page.wait_for_url(re.compile(rf"/runs/(?!{run}/)\d+/$"))
    page.get_by_role("link", name="turn 2 of attempt 1").click()
    page.wait_for_url(re.compile(rf"/runs/{run}/.*#turn-2$"))
    expect(page.locator("#turn-2 > summary")).to_be_in_viewport()
    expect(page.locator("#turn-3")).to_be_attached()  # what follows comes by itself, and moves nothing
    expect(page.locator("#turn-2 > summary")).to_be_in_viewport()


def test_the_newest_turn_has_nothing_to_go_back_from(page: Page, live_product: Product) -> None:
    run = make_run(live_product, "succeeded", "code", "code")
    page.goto(f"/runs/{run}/")
    page.locator("#turn-2 > summary").click()
    expect(page.locator("#turn-2").get_by_role("link")).to_have_text(["Branch from here"])
    page.locator("#turn-1 > summary").click()
    expect(page.locator("#turn-1").get_by_role("link", name="Go back to here")).to_be_visible()


def test_without_scripts_on_a_small_phone_all_of_it_is_done(browser: Browser, signed_in: dict[str, object], live_product: Product) -> None:
    planned, over = make_run(live_product, "waiting", "plan"), make_run(live_product, "succeeded", "code", "code", "ask")
    working = make_run(live_product, "running", "code")
    with browser.new_context(
        storage_state=signed_in,  # type: ignore[arg-type]
        base_url=live_product.url,
        java_script_enabled=False,
        viewport={"width": 360, "height": 780},
    ) as context:
        page = context.new_page()
        page.goto(f"/runs/{planned}/")
        page.get_by_role("link", name="Review plan").click()
        expect(page.get_by_role("link", name="Plan", exact=True)).to_be_visible()
        page.get_by_text("Edit plan").click()
        page.get_by_label("The plan, as the agent gets it").fill("1. All of it")
        page.get_by_role("button", name="Approve and go on").click()
        page.wait_for_url(re.compile(rf"/runs/{planned}/$"))
        assert "1. All of it" in live_product.shell(STATE_OF.format(run=planned))

        page.goto(f"/runs/{working}/")
        for name in ("Stop", "Send now", "Queue"):
            expect(page.locator("#follow-up").get_by_role("button", name=name, exact=True)).to_be_in_viewport(ratio=1)

        page.goto(f"/runs/{over}/")
        page.get_by_role("link", name="Continue as Code").click()
        expect(page.get_by_label("Mode")).to_have_value("code")
        page.locator("#turn-1 > summary").click()
        page.locator("#turn-1").get_by_role("link", name="Go back to here").click()
        page.get_by_role("button", name="Go back").click()
        expect(page.get_by_text("The run is back at turn 1.")).to_be_visible()
        expect(page.get_by_text("Set aside", exact=True)).to_have_count(2)
