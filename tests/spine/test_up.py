"""How `up` ends, and what the next one finds."""

from __future__ import annotations

import contextlib
import signal

import psycopg
import pytest

from tests.spine.points import before_hand_over, held
from tests.spine.product import BRISK, Product, chatty, send, wait_for

ENVIRONMENT = BRISK


@pytest.fixture(autouse=True)
def _runs(product: Product) -> None:
    """Every test finds it running, whatever the one before did."""
    if not product.is_up:
        product.start()


def begin(product: Product, script: str) -> int:
    (run,) = product.submit(script)
    wait_for(lambda: "round 2 " in product.text(run), "its first lines")
    return run


def is_cut(product: Product, run: int) -> bool:
    """Whether the events are the script's own log up to a point; it may have been killed between its two writes of a line."""
    said, own = product.text(run).splitlines(), product.files(run)["own.log"].splitlines()
    return 0 <= len(own) - len(said) <= 1 and own[: len(said)] == said


def test_ctrl_c_interrupts_turns_and_keeps_what_they_did(product: Product) -> None:
    run = begin(product, chatty(1000, 3))
    with held(product):
        queued = product.submit(product.witness.call("after-ctrl-c"))[0]
    product.signal(signal.SIGINT)
    assert product.wait(60) == 0
    assert product.inhabitants() == []
    wait_for(lambda: not product.pids(), "the end of every process", 10)

    product.start()

    row = product.run(run)
    assert (row["status"], row["generation"]) == ("interrupted", 1)
    assert "stopped" in row["error"]
    assert is_cut(product, run)
    assert product.ended(queued)["status"] == "succeeded"
    assert product.witness.count("after-ctrl-c") == 1
    product.manage("follow-up", str(run), "--prompt", "wc -l < own.log > count.txt", "--wait")
    files = product.files(run)
    assert int(files["count.txt"]) == files["own.log"].count("\n") > 6
    product.is_clean()


def test_sigterm_leaves_sandboxes_at_work_and_the_next_start_picks_them_up(product: Product) -> None:
    run = begin(product, product.witness.call("sigterm") + chatty(100, 5))
    product.signal(signal.SIGTERM)
    assert product.wait(30) == 0
    # The script starts a process now and then, so two looks may differ for a moment.
    wait_for(lambda: set(product.pids()) == set(product.inhabitants()) != set(), "the sandbox alone alive")

    product.start()

    assert product.ended(run)["status"] == "succeeded"
    assert product.faults(run) == []
    assert product.text(run).count("\n") == 500
    assert product.witness.count("sigterm") == 1
    product.is_clean()


def test_ctrl_c_leaves_no_sandbox_awake_whose_run_is_over(product: Product) -> None:
    with product.connect() as connection:
        with product.witness.held("over"):
            (run,) = product.submit(product.witness.call("over"))
            connection.execute("SELECT pg_advisory_lock(%s)", [(0x61636F73 << 32) + run])
        assert product.ended(run)["status"] == "succeeded"
        send([wait_for(lambda: product.worker_at(f"finish_turn({run}, 1)") or 0, "who would put it to sleep")], signal.SIGKILL)
    product.signal(signal.SIGINT)
    assert product.wait(60) == 0
    assert product.inhabitants() == []


@pytest.mark.long
def test_after_a_power_cut_what_had_begun_is_interrupted_and_the_rest_goes_on(product: Product) -> None:
    run = begin(product, product.witness.call("begun") + chatty(1000, 3))
    wait_for(lambda: product.patch(run), "a checkpoint")
    with held(product):
        (queued,) = product.submit(product.witness.call("still-queued"))
        product.do("UPDATE tasks_run SET not_before = now() + interval '1 day' WHERE id = %s", queued)
    with contextlib.suppress(psycopg.OperationalError), before_hand_over(product, product.witness.call("not-begun")) as caught:
        product.kill_everything()  # at once: the hand-over is held up for some seconds only

    product.start()
    product.do("UPDATE tasks_run SET not_before = NULL WHERE id = %s", queued)

    assert product.ended(run)["status"] == "interrupted"
    checkpoint = product.patch(run)
    assert checkpoint is not None
    assert checkpoint["kind"] == "checkpoint"
    own = product.files(run)["own.log"]
    assert own
    assert product.text(run).startswith(own.rpartition("\n")[0])  # all up to the checkpoint had been stored
    for name, other in (("not-begun", caught.run_id), ("still-queued", queued)):
        assert product.ended(other)["status"] == "succeeded"
        assert product.witness.count(name) == 1
    assert product.witness.count("begun") == 1
    product.is_clean()
