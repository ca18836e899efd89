"""Ask and Plan with the real agents: that nothing is changed is looked at by us, whatever the model does."""

from __future__ import annotations

from tests.spine.conftest import AGENTS
from tests.spine.person import Person
from tests.spine.product import wait_for
from tests.spine.test_agents_work import PATIENCE_S, all_end, is_over, of_kind, said, turns


def test_an_ask_that_changes_files_is_told_and_its_changes_are_thrown_away(person: Person) -> None:
    product = person.product
    runs = person.start("[[disobey]] [[say The answer.]]", *AGENTS, mode="ask")
    all_end(product, runs, "succeeded", "failed")
    for agent, run in runs.items():
        (error,) = [data for data in of_kind(product, run, "error") if data.get("class") == "mode"]
        assert "disobeyed.txt" in error["text"], agent
        assert "thrown away" in error["text"], agent
        assert product.patch(run) is None or not bytes(product.patch(run)["content"]), agent
        assert "thrown away" in person.get(f"/runs/{run}/"), agent

    for run in runs.values():  # what comes next does not find them
        person.verb(run, "services.send_follow_up(run=run, by=user, prompt='[[run ls]] [[write asked.txt]]', mode='code').pk")
    for run in runs.values():
        wait_for(lambda run=run: is_over(product, run, 2), "the follow-up", PATIENCE_S)
    all_end(product, runs, "succeeded")
    for agent, run in runs.items():
        assert set(product.files(run)) == {"asked.txt"}, agent


def test_a_plan_waits_and_goes_on_as_it_was_edited(person: Person) -> None:
    product = person.product
    runs = person.start("[[run ls]] [[say 1. Write planned.txt]]", *AGENTS, mode="plan")
    for agent, run in runs.items():
        product.until(run, "waiting", "failed", seconds=PATIENCE_S)
        row = product.run(run)
        assert row["status"] == "waiting", (agent, row["error"])
        assert turns(product, run)[0]["answer"] == "1. Write planned.txt", agent
        assert product.patch(run) is None or not bytes(product.patch(run)["content"]), agent

    for run in runs.values():
        person.verb(run, "turns.approve_plan(run=run, by=user, plan='1. [[write planned.txt as edited]]').pk")
    all_end(product, runs, "succeeded")
    for agent, run in runs.items():
        assert product.files(run) == {"planned.txt": "as edited\n"}, agent
        assert "I'll create planned.txt." in said(product, run), agent
