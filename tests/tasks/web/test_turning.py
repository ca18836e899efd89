"""Plans, interruptions, branches and ways back, as pages offer and do them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from agents.registry import ADAPTERS
from tasks.models import EventKind, Mode, Run, RunStatus, Task, Turn, TurnKind
from tasks.running import events

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("agents")]
MakeRun = Callable[..., Run]
HTMX = {"HX-Request": "true"}
PLAN = "## Steps\n\n1. **First** <b>this</b>"


def text(page: str) -> str:
    return " ".join(page.split())


def page_of(client: Client, run: Run, query: str = "") -> str:
    return text(client.get(run.get_absolute_url() + query).content.decode())


def add_turn(run: Run, number: int, *, status: str = "succeeded", is_begun: bool = True, generation: int = 1, **fields: Any) -> Turn:
    """A turn with the events of its life."""
    begun = {"status": status, "started_at": timezone.now(), "generation": generation} if is_begun else {"status": status}
    fields = {"prompt": f"prompt {number}", "author": run.task.owner} | begun | fields
    turn, _ = Turn.objects.update_or_create(run=run, number=number, defaults=fields)
    if is_begun and turn.kind != TurnKind.REVERT:
        for said in ("starting", "running", status):
            events.append(run.pk, EventKind.STATUS, {"status": said}, turn_id=turn.pk)
    return turn


@pytest.fixture
def planned(make_task: Callable[..., Task], make_run: MakeRun) -> Run:
    """A run that waits with its plan."""
    run = make_run(make_task(mode="plan"), agent="claude", status="waiting")
    add_turn(run, 1, mode="plan", answer=PLAN)
    return run


@pytest.fixture
def working(make_run: MakeRun) -> Run:
    """A run at work on its first turn, with a follow-up that waits."""
    run = make_run(agent="claude", status="running", sandbox=True)
    add_turn(run, 1, status="running")
    add_turn(run, 2, status="queued", is_begun=False)
    return run


@pytest.fixture
def over(make_run: MakeRun) -> Run:
    """A run with three turns that are over."""
    run = make_run(agent="claude", status="succeeded", sandbox=True)
    for number in (1, 2, 3):
        add_turn(run, number)
    return run


# --- plans --------------------------------------------------------------------------------------------------------------


def test_a_plan_that_waits_is_shown_first(as_alice: Client, planned: Run) -> None:
    page = page_of(as_alice, planned)
    assert "Approve and go on" in page
    assert "<strong>First</strong> &lt;b&gt;this&lt;/b&gt;" in page
    assert "Edit plan" in page
    assert "Review plan" in page
    assert "Approve and go on" not in page_of(as_alice, planned, "?tab=changes")


def test_a_plan_is_approved_as_it_was_edited_and_goes_on_as_code(as_alice: Client, planned: Run) -> None:
    response = as_alice.post(f"{planned.get_absolute_url()}approve", {"plan": "1. That\r\n2. This"})
    assert response.headers["Location"] == planned.get_absolute_url()
    turn = planned.turns.get(number=2)
    assert turn.mode == Mode.CODE
    assert turn.prompt.endswith("1. That\n2. This")
    planned.refresh_from_db()
    assert planned.status == RunStatus.QUEUED
    page = page_of(as_alice, planned, "?tab=plan")
    assert "Plan of turn 1" in page
    assert "Approve and go on" not in page


@pytest.mark.parametrize(
    ("plan", "status", "sentence"),
    [(" ", "waiting", "The plan is empty."), ("mine \0", "waiting", "Null characters"), ("mine", "running", "does not wait for a plan")],
)
def test_a_plan_that_cannot_be_approved_is_not_lost(as_alice: Client, planned: Run, plan: str, status: str, sentence: str) -> None:
    Run.objects.update(status=status)
    response = as_alice.post(f"{planned.get_absolute_url()}approve", {"plan": plan})
    page = response.content.decode()
    assert response.status_code == 422
    assert sentence in page
    assert f"\n{plan}</textarea>" in page.replace("\x00", "\0")
    assert planned.turns.count() == 1


def test_a_follow_up_refines_the_plan_in_its_mode(as_alice: Client, planned: Run) -> None:
    assert '<option value="plan" selected>' in page_of(as_alice, planned)
    as_alice.post(f"{planned.get_absolute_url()}follow-up", {"prompt": "Shorter", "mode": "plan"})
    assert planned.turns.get(number=2).mode == Mode.PLAN


def test_a_run_without_a_plan_has_no_tab_for_one(as_alice: Client, over: Run) -> None:
    page = page_of(as_alice, over, "?tab=plan")
    assert 'id="tab-plan"' not in page
    assert "Approve" not in page


def test_news_bring_the_plan_to_who_has_not_chosen_another_tab(as_alice: Client, planned: Run) -> None:
    ask = HTMX | {"HX-Target": "work"}
    by_itself = as_alice.get(planned.get_absolute_url(), {"tab": "changes", "by_itself": "", "seen": ""}, headers=ask)
    chosen = as_alice.get(planned.get_absolute_url(), {"tab": "changes", "seen": ""}, headers=ask)
    assert "Approve and go on" in by_itself.content.decode()
    assert "Approve and go on" not in chosen.content.decode()


# --- modes --------------------------------------------------------------------------------------------------------------


def test_an_answer_can_be_continued_as_code(as_alice: Client, over: Run) -> None:
    Turn.objects.update(mode="ask")
    assert "?mode=code#follow-up" in page_of(as_alice, over)
    assert '<option value="ask" selected>' in page_of(as_alice, over)
    assert '<option value="code" selected>' in page_of(as_alice, over, "?mode=code")
    as_alice.post(f"{over.get_absolute_url()}follow-up", {"prompt": "Do it", "mode": "code"})
    assert over.turns.get(number=4).mode == Mode.CODE


def test_only_the_modes_that_the_agent_can_are_offered(as_alice: Client, make_run: MakeRun) -> None:
    assert 'name="mode"' not in page_of(as_alice, make_run(status="succeeded"))  # a script has one
    codex = make_run(agent="codex", status="succeeded")
    page = page_of(as_alice, codex)
    assert '<option value="ask"' in page
    assert '<option value="plan"' not in page
    refused = as_alice.post(f"{codex.get_absolute_url()}follow-up", {"prompt": "kept", "mode": "plan"})
    assert refused.status_code == 422
    assert "cannot work in this mode" in refused.content.decode()
    assert "kept</textarea>" in refused.content.decode()


def test_all_runs_of_a_task_can_be_continued_in_one_mode(as_alice: Client, over: Run, make_run: MakeRun) -> None:
    script = make_run(over.task, status="succeeded")
    address = f"{over.task.get_absolute_url()}follow-up"
    assert "Each as before" in text(as_alice.get(over.task.get_absolute_url()).content.decode())
    refused = as_alice.post(address, {"prompt": "Why?", "mode": "ask", "runs": [over.pk, script.pk]})
    assert "Shell script cannot do" in text(refused.content.decode()).replace("&#x27;", "'")
    as_alice.post(address, {"prompt": "Why?", "mode": "ask", "runs": [over.pk]})
    assert over.turns.get(number=4).mode == Mode.ASK


# --- while a turn is at work --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("can_steer", "words"), [(True, "Send now"), (False, "Stop and send")])
def test_what_waits_need_not_wait(as_alice: Client, working: Run, monkeypatch: pytest.MonkeyPatch, can_steer: bool, words: str) -> None:
    monkeypatch.setattr(ADAPTERS["claude"], "can_steer", can_steer, raising=False)
    page = page_of(as_alice, working)
    assert f"{words}: follow-up 2" in page
    assert "data-interruptible" in page
    response = as_alice.post(f"{working.get_absolute_url()}follow-ups/2/now", headers=HTMX)
    assert (response.status_code, response.headers["HX-Trigger"]) == (204, '{"news": {}}')
    working.refresh_from_db()
    assert (working.stop_requested_at is None) == can_steer


def test_a_follow_up_with_files_cannot_be_given_to_an_agent_at_work(
    as_alice: Client, working: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ADAPTERS["claude"], "can_steer", True, raising=False)
    working.turns.get(number=2).attachments.create(owner=working.task.owner, name="a", content_type="text/plain", content=b"a", size=1)
    assert "Stop and send: follow-up 2" in page_of(as_alice, working)


def test_a_follow_up_can_be_sent_and_not_wait_in_one_go(as_alice: Client, working: Run) -> None:
    Turn.objects.filter(number=2).delete()
    as_alice.post(f"{working.get_absolute_url()}follow-up", {"prompt": "Wait, do that", "now": ""})
    assert working.turns.get(number=2).status == RunStatus.QUEUED
    working.refresh_from_db()
    assert working.stop_requested_at is not None
    page = page_of(as_alice, working)
    assert "data-interruptible" not in page


def test_nothing_is_interrupted_where_nothing_is_at_work(as_alice: Client, over: Run) -> None:
    assert "data-interruptible" not in page_of(as_alice, over)
    add_turn(over, 4, status="queued", is_begun=False)
    page = as_alice.post(f"{over.get_absolute_url()}follow-ups/4/now", follow=True).content.decode()
    assert "No turn is at work" in page


def test_what_was_said_to_an_agent_at_work_stands_where_it_was_said(as_alice: Client, working: Run) -> None:
    turn = working.turns.get(number=1)
    events.append(working.pk, EventKind.MESSAGE, {"text": "use <pytest>", "from": "user"}, turn_id=turn.pk)
    page = page_of(as_alice, working)
    assert "while it worked" in page
    assert "use &lt;pytest&gt;" in page


def test_what_is_tried_again_by_itself_is_one_quiet_line(as_alice: Client, over: Run) -> None:
    add_turn(over, 4, kind="retry", retries=1, prompt="Go on where you were cut off.")
    page = page_of(as_alice, over)
    assert "Tries again by itself (2 of 3)" in page
    assert "Go on where you were cut off." not in page


def test_a_run_that_waits_to_try_again_says_when(as_alice: Client, over: Run) -> None:
    add_turn(over, 4, kind="retry", retries=1, status="queued", is_begun=False)
    Run.objects.update(status="queued", not_before=timezone.now() + timedelta(seconds=29.5))
    for address in (over.get_absolute_url(), over.task.get_absolute_url()):
        page = text(as_alice.get(address).content.decode())
        assert "Tries again in 30 s (2 of 3)." in page or "Tries again in 29 s (2 of 3)." in page
    assert "follow-ups/4/remove" not in page


# --- branches -----------------------------------------------------------------------------------------------------------


def test_a_turn_that_is_over_offers_a_branch(as_alice: Client, over: Run) -> None:
    page = page_of(as_alice, over)
    for number in (1, 2, 3):
        assert f'id="turn-{number}"' in page
        assert f"{over.get_absolute_url()}turns/{number}/branch" in page
    assert f"{over.get_absolute_url()}turns/0/back" in page


def test_a_branch_asks_for_its_prompt_and_says_where_it_came_from(as_alice: Client, over: Run) -> None:
    address = f"{over.get_absolute_url()}turns/2/branch"
    assert "Branch from turn 2" in as_alice.get(address).content.decode()
    refused = as_alice.post(address, {"prompt": " "})
    assert refused.status_code == 422
    assert "the prompt is empty" in refused.content.decode()
    response = as_alice.post(address, {"prompt": "Another\r\nway"})
    branch = Run.objects.get(parent=over)
    assert response.headers["Location"] == branch.get_absolute_url()
    assert branch.turns.get().prompt == "Another\nway"
    for where in (branch.get_absolute_url(), branch.task.get_absolute_url()):
        page = text(as_alice.get(where).content.decode())
        assert f'href="{over.get_absolute_url()}turns/2/"' in page
        assert f"turn 2 of attempt {over.attempt}" in page


def test_a_turn_has_an_address(as_alice: Client, over: Run) -> None:
    response = as_alice.get(f"{over.get_absolute_url()}turns/2/")
    assert response.headers["Location"] == f"{over.get_absolute_url()}?before=7#turn-2"
    assert 'id="turn-2"' in as_alice.get(response.headers["Location"]).content.decode()


# --- ways back ----------------------------------------------------------------------------------------------------------


def test_going_back_is_asked_first_and_sets_aside_what_came_after(as_alice: Client, over: Run) -> None:
    address = f"{over.get_absolute_url()}turns/1/back"
    question = text(as_alice.get(address).content.decode())
    assert "Go back to the end of turn 1?" in question
    assert "Nothing is deleted" in question
    assert over.turns.count() == 3
    page = text(as_alice.post(address, follow=True).content.decode())
    assert "The run is back at turn 1." in page
    assert "Went back to turn 1" in page
    assert page.count('<span class="label">Set aside</span>') == 2
    assert "prompt 3" in page


def test_a_page_that_begins_within_a_turn_set_aside_says_so(as_alice: Client, over: Run) -> None:
    as_alice.post(f"{over.get_absolute_url()}turns/1/back")
    assert "Set aside: turn 3" in page_of(as_alice, over, "?after=8")


def test_going_back_is_refused_in_words_while_a_turn_waits(as_alice: Client, over: Run) -> None:
    add_turn(over, 4, status="queued", is_begun=False)
    response = as_alice.post(f"{over.get_absolute_url()}turns/0/back")
    assert response.status_code == 409
    assert "Stop the run first" in response.content.decode()


@pytest.mark.parametrize(
    ("agent", "sentence"),
    [("claude", "reads what was said before from a transcript"), ("shell", "it begins with what was changed before")],
)
def test_a_new_sandbox_is_told_of(as_alice: Client, over: Run, monkeypatch: pytest.MonkeyPatch, agent: str, sentence: str) -> None:
    monkeypatch.setattr(ADAPTERS["claude"], "providers", ("anthropic",), raising=False)
    Run.objects.update(agent=agent)
    assert "sandbox is new" not in page_of(as_alice, over)
    add_turn(over, 4, generation=2)
    assert sentence in page_of(as_alice, over)


def test_after_going_back_to_the_beginning_nothing_is_known(as_alice: Client, over: Run) -> None:
    add_turn(over, 4, kind="revert", reverts_to=0)
    add_turn(over, 5, generation=2)
    assert "knows nothing of what was said before" in page_of(as_alice, over)


# --- what went wrong ----------------------------------------------------------------------------------------------------


def test_a_disobedient_turn_stands_out(as_alice: Client, over: Run) -> None:
    events.append(over.pk, EventKind.ERROR, {"text": "Its changes were thrown away.", "class": "mode"}, turn_id=over.turns.get(number=3).pk)
    page = page_of(as_alice, over)
    assert "Changes thrown away" in page
    assert "send a follow-up as Code" in page


@pytest.mark.parametrize(("error_class", "leads"), [("auth", True), ("credit", True), ("overloaded", False), ("hung", False)])
def test_an_error_with_a_key_leads_to_the_keys(as_alice: Client, over: Run, error_class: str, leads: bool) -> None:
    Run.objects.update(status="failed", error="It did not work.", error_class=error_class)
    for address in (over.get_absolute_url(), over.task.get_absolute_url()):
        page = as_alice.get(address).content.decode()
        assert "It did not work." in page
        assert ("/settings/#keys" in page) == leads


def test_a_budget_that_is_used_up_is_no_matter_of_keys(as_alice: Client, over: Run) -> None:
    Run.objects.update(status="failed", error="The budget is used up.", error_class="credit")
    over.turns.filter(number=3).update(end_reason="budget")
    page = page_of(as_alice, over)
    assert "larger budget" in page
    assert "/settings/#keys" not in page


# --- whose --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["turns/1/", "turns/1/branch", "turns/1/back"])
def test_another_users_turns_cannot_be_seen(as_bob: Client, over: Run, path: str) -> None:
    assert as_bob.get(over.get_absolute_url() + path).status_code == 404


@pytest.mark.parametrize("path", ["approve", "follow-ups/2/now", "turns/1/branch", "turns/0/back"])
def test_another_users_turns_cannot_be_touched(as_bob: Client, over: Run, path: str) -> None:
    assert as_bob.post(over.get_absolute_url() + path, {"prompt": "x", "plan": "x"}).status_code == 404
    assert (Run.objects.count(), Turn.objects.count()) == (1, 3)


@pytest.mark.parametrize("path", ["approve", "follow-ups/2/now"])
def test_what_changes_something_takes_post(as_alice: Client, over: Run, path: str) -> None:
    assert as_alice.get(over.get_absolute_url() + path).status_code == 405


@pytest.mark.parametrize("path", ["turns/9/", "turns/9/branch", "turns/9/back", "turns/0/branch"])
def test_a_turn_that_is_not_there(as_alice: Client, over: Run, path: str) -> None:
    assert as_alice.get(over.get_absolute_url() + path).status_code == 404
