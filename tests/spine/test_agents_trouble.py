"""The real agents when things go wrong: the model's API refuses, hangs, or is cut; the user stops; the budget is used up."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.models.server import ModelServer
from tests.spine.conftest import AGENTS
from tests.spine.person import Person
from tests.spine.product import Product, send, wait_for
from tests.spine.test_agents_work import PATIENCE_S, all_end, is_over, of_kind, said, tail, turns, word

PLAIN = AGENTS[:2]  # those that tell what they are told


def test_a_stop_ends_a_tool_and_the_wait_for_the_model(person: Person, model: ModelServer) -> None:
    product, about = person.product, word()
    runs = person.start("[[write before.txt]] [[sleep-tool 600]]", *AGENTS)
    for agent, run in runs.items():
        wait_for(lambda run=run: "waiting" in str(of_kind(product, run, "tool_call")[2:]), f"the waiting tool of {agent}", PATIENCE_S)
        person.stop(run)
    all_end(product, runs, "canceled", seconds=40)
    for agent, run in runs.items():
        assert set(product.files(run)) == {"before.txt"}, agent

    for run in runs.values():  # and on in the same conversation
        person.follow_up(run, f"[[hang]] {about}")
    wait_for(lambda: len(unanswered(model, about)) == len(AGENTS), "all that wait for the model", PATIENCE_S)
    for run in runs.values():
        person.stop(run)
    for agent, run in runs.items():
        wait_for(lambda run=run: turns(product, run)[1]["status"] == "canceled", f"the second stop of {agent}", 40)
        assert set(product.files(run)) == {"before.txt"}, agent


def test_errors_of_the_api_are_told_as_what_they_are(person: Person) -> None:
    """OpenCode asks again for as long as it is told 429, and shortens a conversation that is too long by itself."""
    product = person.product
    scenes = {"[[status 401]]": "auth", "[[status 404]]": "model", "[[credit]]": "credit", "[[context]]": "context"}
    tasks = {
        marker: person.start(f"{marker} {word()}", *(AGENTS if expected in ("auth", "model") else PLAIN))
        for marker, expected in scenes.items()
    }
    for marker, runs in tasks.items():
        all_end(product, runs, "failed")
        for agent, run in runs.items():
            row = product.run(run)
            assert row["error_class"] == scenes[marker], f"{agent} {marker}\n{tail(product, run)}"
            assert row["error"].endswith("."), f"{agent} {marker}"
            (error,) = of_kind(product, run, "error")
            assert (error["class"], bool(error["advice"])) == (scenes[marker], True), f"{agent} {marker}"

    for run in tasks["[[status 401]]"].values():  # the key was put right
        person.follow_up(run, "[[write after.txt]]")
    for agent, run in tasks["[[status 401]]"].items():
        wait_for(lambda run=run: is_over(product, run, 2), f"the end of what went well with {agent}", PATIENCE_S)
        assert set(product.files(run)) == {"after.txt"}, f"{agent}\n{tail(product, run)}"


def test_a_rate_limit_that_goes_away_is_waited_for(person: Person) -> None:
    product = person.product
    runs = person.start(f"[[status 429 then ok]] [[write hello.txt]] {word()}", *AGENTS)
    for agent, run in runs.items():
        wait_for(lambda run=run: turns(product, run)[-1]["status"] == "succeeded", f"success of {agent}", PATIENCE_S)
        assert set(product.files(run)) == {"hello.txt"}, agent


def test_an_overload_is_tried_again_a_few_times(person: Person) -> None:
    product = person.product
    runs = person.start(f"[[status 529]] {word()}", *PLAIN)
    tried_three_times(product, runs)


def test_an_endpoint_that_refuses_connections_is_told(person: Person, model: ModelServer) -> None:
    product = person.product
    model.refuse()
    try:
        runs = person.start(f"hello {word()}", *PLAIN)
        tried_three_times(product, runs)
    finally:
        model.accept()
    for agent, run in runs.items():
        assert f"127.0.0.1:{model.port} cannot be reached" in product.run(run)["error"], agent


def tried_three_times(product: Product, runs: dict[str, int]) -> None:
    for agent, run in runs.items():
        wait_for(lambda run=run: is_over(product, run, 3), f"three tries of {agent}", PATIENCE_S)
        rows = turns(product, run)
        assert [row["error_class"] for row in rows] == ["overloaded"] * 3, f"{agent}\n{tail(product, run)}"
        assert [row["kind"] for row in rows] == ["prompt", "retry", "retry"], agent
        assert product.run(run)["status"] == "failed", agent


@pytest.mark.long
def test_an_agent_that_waits_for_a_dead_endpoint_ends_by_the_silence_clock(person: Person, model: ModelServer) -> None:
    """OpenCode tries for ever, and says nothing of it."""
    product = person.product
    model.refuse()
    try:
        runs = person.start(f"hello {word()}", AGENTS[-1])
        all_end(product, runs, "failed")
    finally:
        model.accept()
    assert product.run(runs["opencode"])["error_class"] == "hung"


def test_a_stream_that_is_cut_with_the_gateway_goes_on(person: Person, model: ModelServer) -> None:
    product, about = person.product, word()
    runs = person.start(f"[[write before.txt]] [[say Half of it]] [[gate {about}]] [[say and the rest.]] [[write after.txt]]", *AGENTS)
    wait_for(lambda: at_gate(model, about) == {"anthropic", "responses", "gemini"}, "all in the middle of a stream", PATIENCE_S)
    send([product.service("gateway")], signal.SIGKILL)
    model.open(about)
    for agent, run in runs.items():
        wait_for(lambda run=run: product.run(run)["status"] == "succeeded", f"success of {agent}", PATIENCE_S)
        assert set(product.files(run)) == {"before.txt", "after.txt"}, f"{agent}\n{tail(product, run)}"
        assert len(turns(product, run)) <= 2, agent
        assert "and the rest." in said(product, run), agent


def unanswered(model: ModelServer, about: str) -> set[str]:
    """The formats of requests that there was no answer to."""
    return {seen.wire for seen in model.asked(about) if not seen.status}


def at_gate(model: ModelServer, about: str) -> set[str]:
    """The formats in which the third answer, the one with the gate, has begun."""
    begun = Counter(seen.wire for seen in model.asked(about) if seen.status == 200 and seen.body.get("tools", seen.wire == "responses"))
    return {wire for wire, count in begun.items() if count >= 3}


@pytest.fixture
def budget(person: Person) -> Iterator[None]:
    person.do("from tasks.models import Budget; Budget.objects.create(scope='run', usd='1.00')")
    yield
    person.do("from tasks.models import Budget; Budget.objects.all().delete()")


@pytest.mark.usefixtures("budget")
def test_a_budget_that_is_used_up_ends_the_turn(person: Person) -> None:
    product = person.product
    runs = person.start("[[write before.txt]] [[spend 1000000]] [[write after.txt]]", *AGENTS)
    all_end(product, runs, "failed")
    for agent, run in runs.items():
        row = product.run(run)
        assert row["error_class"] == "credit", agent
        assert "budget" in row["error"].lower(), agent
        assert set(product.files(run)) == {"before.txt"}, agent
        assert "budget" in person.get(f"/runs/{run}/").lower(), agent


def test_an_agent_that_stays_after_its_result_counts_as_finished(person: Person) -> None:
    """Claude Code stays for what it runs in the background."""
    product = person.product
    runs = person.start("[[write hello.txt]] [[background 600]] [[say It is done.]]", "claude")
    row = product.ended(runs["claude"], PATIENCE_S)
    assert row["status"] == "succeeded", tail(product, runs["claude"])
    assert turns(product, runs["claude"])[0]["outcome"]["reason"] == "finished"
    assert set(product.files(runs["claude"])) == {"hello.txt"}
    product.is_clean()
