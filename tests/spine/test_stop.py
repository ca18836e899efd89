"""Stop works within 5 seconds, whatever state a run is in."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.spine.points import before_create, before_patch, held
from tests.spine.product import GIT, Product, command, freeze, send, wait_for, wake

STUBBORN = """
trap '' TERM INT HUP
(setsid bash -c 'trap "" TERM HUP; (while true; do sleep 0.2; done) & while true; do sleep 0.2; done' &)
echo kept > kept.txt
echo ready
while true; do sleep 0.2; done
"""


def stop(product: Product, run: int, *, within: float = 5.0) -> dict[str, object]:
    """Cancel a run by the command; it must be canceled and its processes dead `within` seconds of the command's end."""
    assert "being stopped" in product.manage("cancel", str(run)).stdout
    began = time.monotonic()
    row = product.until(run, "canceled", seconds=within)
    ref = product.sandboxes(run)[-1]["ref"] if product.sandboxes(run) else ""
    if ref:
        wait_for(lambda: not product.inhabitants(ref), "the end of its processes", max(0.1, began + within - time.monotonic()))
    return row


def says(product: Product, run: int, text: str, **step: str) -> Callable[[], bool]:
    return lambda: text in product.text(run, **step)


def test_a_queued_run_with_follow_ups(product: Product) -> None:
    with held(product):
        (run,) = product.submit(product.witness.call("queued"))
        for prompt in ("echo two", "echo three"):
            product.manage("follow-up", str(run), "--prompt", prompt)
        assert stop(product, run)["generation"] == 1

    turns = product.rows("SELECT status FROM tasks_turn WHERE run_id = %s", run)
    assert [turn["status"] for turn in turns] == ["canceled"] * 3
    assert product.witness.count("queued") == 0


def test_a_start_that_is_blocked(product: Product) -> None:
    with before_create(product, product.witness.call("blocked")) as caught:
        stop(product, caught.run_id)
    product.is_clean()
    assert product.run(caught.run_id)["status"] == "canceled"
    assert product.witness.count("blocked") == 0


def test_an_agent_that_ignores_every_signal_and_forks_away(product: Product) -> None:
    (run,) = product.submit(STUBBORN)
    wait_for(says(product, run, "ready"), "the script")

    stop(product, run)

    assert product.files(run)["kept.txt"] == "kept\n"
    product.is_clean()


def test_a_setup_script(product: Product) -> None:
    product.do("UPDATE tasks_repo SET setup_script = %s", "echo setting up\nsleep 100")
    (run,) = product.submit(product.witness.call("after-setup"))
    wait_for(says(product, run, "setting up", step="setup"), "the setup script")
    product.do("UPDATE tasks_repo SET setup_script = ''")

    stop(product, run)

    assert product.witness.count("after-setup") == 0
    product.is_clean()


def test_a_checkout(product: Product) -> None:
    big = product.folder / "big"
    big.mkdir()
    (big / "big.txt").write_bytes(b"nothing but zeros\n" * 10_000_000)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Begin"]):
        subprocess.run([*GIT, *words], cwd=big, check=True)
    with held(product):  # it starts when we look, not while the command that submits it ends
        (run,) = product.submit(product.witness.call("after-checkout"), repo=big)

    def checking_out() -> list[int]:
        return [pid for pid in product.inhabitants(product.ref(run)) if " read-tree " in command(pid)]

    send(wait_for(checking_out, "the checkout", pause=0.001), signal.SIGSTOP)  # it stays in that state
    wait_for(lambda: product.run(run)["stage"] == "checkout", "the stage")

    stop(product, run)

    assert product.witness.count("after-checkout") == 0
    assert product.patch(run) is None
    product.is_clean()


def test_one_that_is_collected_ends_as_what_it_was(product: Product) -> None:
    with ThreadPoolExecutor(1) as pool:
        with before_patch(product, "echo x > y") as caught:
            said = pool.submit(product.manage, "cancel", str(caught.run_id))
            wait_for(lambda: product.blocked('"tasks_run"'), "the stop behind the run's end")
        assert "over already" in said.result().stdout
    assert product.ended(caught.run_id, 5)["status"] == "succeeded"


def test_while_the_follower_is_dead(product: Product) -> None:
    (run,) = product.submit("echo ready; echo kept > kept.txt; sleep 100")
    wait_for(says(product, run, "ready"), "the script")
    os.kill(product.service("follow"), signal.SIGKILL)

    stop(product, run)

    assert product.files(run)["kept.txt"] == "kept\n"
    product.is_clean()


def test_a_run_whose_sandbox_vanished(product: Product) -> None:
    (run,) = product.submit("echo ready; sleep 100")
    wait_for(says(product, run, "ready"), "the script")
    follower = product.service("follow")
    freeze(follower)  # so that nobody notices before the stop
    try:
        send(product.inhabitants(product.ref(run)), signal.SIGKILL)
        product.manage("cancel", str(run))
    finally:
        wake(follower)
    product.until(run, "canceled", seconds=5)
    product.is_clean()
