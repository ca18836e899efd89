"""Gemini CLI, Copilot and Qwen Code through the whole system: what the tests of the other agents show, of these in short."""

from __future__ import annotations

import json

import pytest

from tests.installed import installed
from tests.models.server import KEY, ModelServer
from tests.spine.person import Person
from tests.spine.product import FINAL, wait_for
from tests.spine.test_agents_work import all_end, answered, found_in_folder, found_in_processes, of_kind, said, tail, turns, word

pytestmark = pytest.mark.long
AGENTS = ("gemini", "copilot", "qwen")
START_S = 120.0


@pytest.fixture(scope="module", autouse=True)
def _installed(person: Person) -> None:
    installed(*AGENTS)  # into the folder that the product shares


def test_files_are_written_and_follow_ups_go_on(person: Person, model: ModelServer) -> None:
    product, first, second = person.product, word(), word()
    runs = person.start(f"[[write hello.txt]] [[fail]] [[say The end of {first}.]]", *AGENTS)
    all_end(product, runs, "succeeded", seconds=START_S)
    for agent, run in runs.items():
        assert product.files(run) == {"hello.txt": "hello from hello.txt\n"}, agent
        assert f"The end of {first}." in said(product, run), agent
        results = of_kind(product, run, "tool_result")
        assert {call["id"] for call in of_kind(product, run, "tool_call")} >= {result["id"] for result in results}, agent
        assert any("/does/not/exist" in str(result.get("output")) for result in results), agent
        assert product.run(run)["input_tokens"] > 0, agent
        assert product.run(run)["output_tokens"] > 0, agent

    for run in runs.values():
        person.follow_up(run, f"[[write two.txt]] [[say Seen {second}.]]")
    for agent, run in runs.items():
        wait_for(lambda run=run: turns(product, run)[1]["finished_at"], f"the follow-up of {agent}", START_S)
        one, two = turns(product, run)
        assert two["status"] == "succeeded", f"{agent}\n{tail(product, run)}"
        assert one["conversation"] == two["conversation"] != "", agent
        assert set(product.files(run)) == {"hello.txt", "two.txt"}, agent
    assert all(first in json.dumps(seen.body) for seen in answered(model, second))
    assert {seen.key for seen in model.asked(first)} == {KEY}


def test_text_arrives_while_it_is_written(person: Person, model: ModelServer) -> None:
    product, gate = person.product, word()
    runs = person.start(f"[[stream 50 0.01]] [[gate {gate}]] [[stream 50 0.01]]", *AGENTS)
    for agent, run in runs.items():
        wait_for(lambda run=run: "chunk 49\n" in said(product, run), f"half of what {agent} says", START_S)
        assert product.run(run)["status"] == "running", agent
    model.open(gate)
    all_end(product, runs, "succeeded", seconds=START_S)
    for agent, run in runs.items():
        assert said(product, run).count("chunk 50") == 2, agent


def test_a_stop_ends_a_tool_whose_sandbox_holds_no_key(person: Person) -> None:
    product = person.product
    runs = person.start("[[write before.txt]] [[sleep-tool 600]]", *AGENTS)
    for agent, run in runs.items():
        wait_for(lambda run=run: "waiting" in str(of_kind(product, run, "tool_call")[2:]), f"the waiting tool of {agent}", START_S)
        assert not found_in_processes(KEY, product.inhabitants(product.ref(run))), agent
        assert not found_in_folder(KEY, product.data / "sandboxes" / product.ref(run)), agent
        person.stop(run)
    all_end(product, runs, "canceled", seconds=30)
    for agent, run in runs.items():
        assert set(product.files(run)) == {"before.txt"}, agent


@pytest.mark.parametrize(("marker", "expected"), [("[[status 401]]", "auth"), ("[[status 404]]", "model"), ("[[credit]]", "credit")])
def test_errors_of_the_api_are_told_as_what_they_are(person: Person, marker: str, expected: str) -> None:
    """Qwen Code asks again for as long as it is told 429, until the silence clock ends it; the broker knows why."""
    product = person.product
    runs = person.start(f"{marker} {word()}", *AGENTS)
    for agent, run in runs.items():
        row = product.until(run, *FINAL, seconds=START_S)
        assert (row["status"], row["error_class"]) == ("failed", expected), f"{agent}\n{tail(product, run)}"


def test_a_rate_limit_that_goes_away_is_waited_for(person: Person) -> None:
    product = person.product
    runs = person.start(f"[[status 429 then ok]] [[write hello.txt]] {word()}", *AGENTS)
    for agent, run in runs.items():
        wait_for(lambda run=run: turns(product, run)[-1]["status"] == "succeeded", f"success of {agent}", START_S)
        assert set(product.files(run)) == {"hello.txt"}, agent


def test_an_ask_that_changes_files_is_told(person: Person) -> None:
    product = person.product
    runs = person.start("[[disobey]] [[say The answer.]]", *AGENTS, mode="ask")
    all_end(product, runs, "succeeded", "failed", seconds=START_S)
    for agent, run in runs.items():
        told = [data["text"] for data in of_kind(product, run, "error") if data.get("class") == "mode"]
        assert bool(told) == (agent != "qwen"), f"{agent}\n{tail(product, run)}"  # that one refuses such commands by itself
        patch = product.patch(run)
        assert patch is None or not bytes(patch["content"]), agent
