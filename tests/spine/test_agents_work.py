"""The real agents through the whole system, with the scripted model of tests/models: what they do when all goes well."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

from tests.models.server import KEY, ModelServer, Seen
from tests.spine.conftest import AGENTS
from tests.spine.person import Person
from tests.spine.product import Product, wait_for

PROVIDERS = {"claude": "anthropic", "codex": "openai", "opencode": "gemini"}
PATIENCE_S = 180.0  # all agents of a task start at once, on whatever there is of processors
TOKENS = ("input_tokens", "cached_tokens", "output_tokens")
_words = itertools.count(1)


def word() -> str:
    """One for this test's prompts: the server does things once for each prompt, and finds requests by it."""
    return f"job-{next(_words)}-work"


def all_end(product: Product, runs: dict[str, int], *statuses: str, seconds: float = PATIENCE_S) -> None:
    for agent, run in runs.items():
        row = product.ended(run, seconds)
        assert row["status"] in statuses, f"{agent}: {row['status']} {row['error_class']} {row['error']}\n{tail(product, run)}"


def tail(product: Product, run: int) -> str:
    return "\n".join(f"{event['kind']}: {str(event['data'])[:500]}" for event in product.events(run)[-15:])


def of_kind(product: Product, run: int, kind: str) -> list[dict[str, Any]]:
    return [event["data"] for event in product.events(run) if event["kind"] == kind]


def said(product: Product, run: int) -> str:
    """All messages, as a reader sees them: chunks, and the text that takes their place."""
    parts: dict[str, str] = {}
    for number, data in enumerate(of_kind(product, run, "message")):
        key = data.get("id", str(number))
        parts[key] = parts.get(key, "") + data["chunk"] if "chunk" in data else data["text"]
    return "\n".join(parts.values())


def answered(model: ModelServer, words: str) -> list[Seen]:
    return [seen for seen in model.asked(words) if seen.status == 200]


def test_files_are_written_commands_run_and_failures_seen(person: Person, model: ModelServer) -> None:
    product, about = person.product, word()
    runs = person.start(f"[[write hello.txt]] [[fail]] [[say The end of {about}.]]", *AGENTS)
    all_end(product, runs, "succeeded")

    for agent, run in runs.items():
        assert product.files(run) == {"hello.txt": "hello from hello.txt\n"}, agent
        assert f"The end of {about}." in said(product, run), agent
        calls, results = of_kind(product, run, "tool_call"), of_kind(product, run, "tool_result")
        assert {call["id"] for call in calls} == {result["id"] for result in results}, agent
        assert "edit" in {call["tool"] for call in calls}, agent
        assert "execute" in {call["tool"] for call in calls}, agent
        assert any("/does/not/exist" in str(result.get("output")) for result in results), agent

        row = product.run(run)
        asked = 5 if agent == "opencode" else 4  # it asks for a title, too
        assert [row[name] for name in TOKENS] == [asked * 1000, asked * 300, asked * 50], agent
        assert row["cost_usd"] > 0, agent
        calls = product.rows("SELECT * FROM tasks_modelcall WHERE run_id = %s", run)
        assert {call["provider"] for call in calls} == {PROVIDERS[agent]}, agent
        assert [sum(call[name] for call in calls) for name in TOKENS] >= [4 * 1000, 4 * 300, 4 * 50], agent
    assert {seen.key for seen in model.asked(about)} == {KEY}


def test_follow_ups_go_on_in_the_same_conversation(person: Person, model: ModelServer) -> None:
    product, first, second = person.product, word(), word()
    runs = person.start(f"[[run echo {first} > one.txt]]", *AGENTS)
    all_end(product, runs, "succeeded")
    for run in runs.values():
        person.follow_up(run, f"[[run cat one.txt]] [[say Seen {second}.]]")
    for run in runs.values():
        wait_for(lambda run=run: is_over(product, run, 2), "the follow-up", PATIENCE_S)
    all_end(product, runs, "succeeded")

    for agent, run in runs.items():
        one, two = turns(product, run)
        assert one["conversation"] == two["conversation"] != "", agent
        assert product.run(run)["generation"] == 1, agent
        assert any(first in str(result.get("output")) for result in of_kind(product, run, "tool_result")), agent
        asked = 3 if agent == "opencode" else 2  # it asks for a title at first
        assert (one["output_tokens"], two["output_tokens"]) == (asked * 50, 100), agent  # what is cumulative is told apart
    requests = [json.dumps(seen.body) for seen in answered(model, second)]
    assert len(requests) >= 2 * len(AGENTS)
    assert all(first in request for request in requests)


def turns(product: Product, run: int) -> list[dict[str, Any]]:
    return product.rows("SELECT * FROM tasks_turn WHERE run_id = %s ORDER BY number", run)


def is_over(product: Product, run: int, number: int) -> bool:
    """Whether this turn is over, the newest of the run."""
    rows = turns(product, run)
    return len(rows) == number and rows[-1]["finished_at"] is not None


def test_text_arrives_while_it_is_written(person: Person, model: ModelServer) -> None:
    """The second half is not sent before the first was seen in the database. Codex tells its text whole."""
    product, gate = person.product, word()
    runs = person.start(f"[[stream 50 0.01]] [[gate {gate}]] [[stream 50 0.01]]", "claude", "opencode:google/gemini-2.5-pro")
    for agent, run in runs.items():
        wait_for(lambda run=run: "chunk 50\n" in said(product, run), f"half of what {agent} says", PATIENCE_S)
        assert product.run(run)["status"] == "running", agent
    model.open(gate)
    all_end(product, runs, "succeeded")
    for agent, run in runs.items():
        assert re.findall(r"chunk (\d+)", said(product, run)) == [str(n) for n in [*range(1, 51), *range(1, 51)]], agent


def test_what_codex_says_arrives_while_it_works(person: Person, model: ModelServer) -> None:
    product, gate = person.product, word()
    runs = person.start(f"[[say First words.]] [[run echo first]] [[gate {gate}]] [[say Last words.]]", "codex")
    wait_for(lambda: "First words." in said(product, runs["codex"]), "the first words", PATIENCE_S)
    wait_for(lambda: of_kind(product, runs["codex"], "tool_result"), "the first result")
    assert product.run(runs["codex"])["status"] == "running"
    model.open(gate)
    all_end(product, runs, "succeeded")
    assert "Last words." in said(product, runs["codex"])


def test_a_real_key_is_never_in_a_sandbox(person: Person, model: ModelServer) -> None:
    """Searched for while the agents are at work, and in all that is stored afterwards."""
    product, about = person.product, word()
    runs = person.start(f"[[run env; echo about {about}]] [[sleep-tool 600]]", *AGENTS)
    for agent, run in runs.items():
        wait_for(lambda run=run: "waiting" in str(of_kind(product, run, "tool_call")[1:]), f"the second tool call of {agent}", PATIENCE_S)
    try:
        for agent, run in runs.items():
            pids = product.inhabitants(product.ref(run))
            assert len(pids) > 2, agent
            assert not found_in_processes(KEY, pids), agent
            assert not found_in_folder(KEY, product.data / "sandboxes" / product.ref(run)), agent
    finally:
        for run in runs.values():
            person.stop(run)
    all_end(product, runs, "canceled")
    for agent, run in runs.items():
        assert KEY not in json.dumps(product.events(run), default=str), agent
        assert not found_in_folder(KEY, product.data / "sandboxes" / product.ref(run)), agent
    assert {seen.key for seen in model.asked(about)} == {KEY}


def found_in_processes(words: str, pids: list[int]) -> list[str]:
    found = []
    for pid in pids:
        for name in ("environ", "cmdline"):
            with contextlib.suppress(OSError):
                if words.encode() in Path(f"/proc/{pid}/{name}").read_bytes():
                    found.append(f"{pid}/{name}")
    return found


def found_in_folder(words: str, folder: Path) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):
                if words.encode() in path.read_bytes():
                    found.append(str(path))
    return found


def test_attachments_are_read_and_named(person: Person) -> None:
    product = person.product
    runs = person.start("[[attachments]]", *AGENTS, files={"notes.txt": b"the words of the notes\n", "more.txt": b"and more\n"})
    all_end(product, runs, "succeeded")
    for agent, run in runs.items():
        outputs = " ".join(str(result.get("output")) for result in of_kind(product, run, "tool_result"))
        assert "the words of the notes" in outputs, agent
        assert "and more" in outputs, agent
        assert product.files(run) == {}, agent


def test_a_branch_goes_on_from_an_earlier_turn(person: Person, model: ModelServer) -> None:
    product, first, second = person.product, word(), word()
    runs = person.start(f"[[write one.txt]] [[say {first}]]", *AGENTS)
    all_end(product, runs, "succeeded")
    for run in runs.values():
        person.follow_up(run, "[[write two.txt]]")
    for run in runs.values():
        wait_for(lambda run=run: is_over(product, run, 2), "the follow-up", PATIENCE_S)
    all_end(product, runs, "succeeded")

    prompt = f"[[run cat one.txt]] [[write three.txt]] {second}"
    branches = {
        agent: int(person.verb(run, f"turns.branch_run(run=run, by=user, after=1, prompt={prompt!r}).pk")) for agent, run in runs.items()
    }
    all_end(product, branches, "succeeded")
    for agent, run in branches.items():
        assert set(product.files(run)) == {"one.txt", "three.txt"}, agent
        assert set(product.files(runs[agent])) == {"one.txt", "two.txt"}, agent
    assert all("transcript" in seen.prompt for seen in answered(model, second))
