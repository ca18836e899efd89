"""The follower may die, freeze or have a double at any moment: events have no gap, no double, and are what the script said."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.spine import broken
from tests.spine.points import locked
from tests.spine.product import BRISK, FINAL, Product, chatty, freeze, wait_for, wake

ENVIRONMENT = BRISK


@contextlib.contextmanager
def second_follower(product: Product) -> Iterator[subprocess.Popen[bytes]]:
    """Another follower of the same sandboxes and rows, that another lock file lets in."""
    folder = product.folder / "second"
    folder.mkdir(exist_ok=True)
    for name in ("sandboxes", "runtime"):
        if not (folder / name).exists():
            (folder / name).symlink_to(product.data / name)
    sockets = product.data / "sockets"
    environment = product.environment | {
        "ASYNCCODE_DATA": str(folder),
        "DATABASE_URL": f"postgres://asynccode@/asynccode?host={sockets}/postgres",
        "REDIS_URL": f"unix://{sockets}/valkey/valkey.sock",
    }
    argv = [sys.executable, str(product.source / "manage.py"), "follow"]
    with product.log.open("ab") as log, subprocess.Popen(argv, env=environment, stdout=log, stderr=log, cwd=product.source) as process:
        try:
            yield process
        finally:
            process.kill()


def leases(product: Product, run: int) -> str:
    return str(product.run(run)["lease_owner"])


def talking(product: Product, until: str) -> str:
    """A script that goes on for as long as the witness holds `until`."""
    return f"({product.witness.call(until)}touch /tmp/{until}) &\n" + chatty(100_000, 10, until=f"[ -e /tmp/{until} ]")


def test_killed_again_and_again_it_loses_and_doubles_nothing(product: Product) -> None:
    def stored() -> int:
        return sum(product.run(run)["next_seq"] for run in runs)

    with product.witness.held("enough"):  # the scripts go on for however long it takes to start it again
        runs = product.submit(talking(product, until="enough"), attempts=3)
        for _ in range(3):
            before, follower = stored(), product.service("follow")
            wait_for(lambda: stored() > before + 9, "events while it lives", 60)  # noqa: B023
            os.kill(follower, signal.SIGKILL)
            wait_for(lambda: follower not in product.pids(), "its end")  # noqa: B023
    for run in runs:
        assert product.ended(run)["status"] == "succeeded"

    assert [product.faults(run) for run in runs] == [[], [], []]
    assert all(product.text(run).count("\n") > 100 for run in runs)


def contended(product: Product, rounds: int) -> list[str]:
    """What is wrong with the events of a run that two followers took from one another, one of them freezing again and again."""
    (run,) = product.submit(chatty(rounds, 10))
    first = product.service("follow")

    def is_over() -> bool:
        return product.run(run)["status"] in FINAL

    def is_its_own() -> bool:
        return f":{first}:" in leases(product, run) or is_over()

    def is_the_others() -> bool:
        return (f":{first}:" not in leases(product, run) and len(product.text(run)) > said) or is_over()

    takeovers = 0
    try:
        with second_follower(product):
            while not is_over():
                wait_for(is_its_own, "the first one at work", 60)
                said = len(product.text(run))
                freeze(first)
                wait_for(is_the_others, "the other one at work", 60)
                wake(first)
                takeovers += 1
    finally:
        wake(first)
    assert takeovers > 1
    assert product.run(run)["status"] == "succeeded"
    return product.faults(run)


def test_frozen_and_woken_while_another_is_at_work_it_doubles_nothing(product: Product) -> None:
    assert contended(product, 80) == []


@pytest.mark.long
def test_without_lease_and_offset_it_would(make_broken: Callable[..., Product]) -> None:
    assert contended(make_broken(broken.NO_FOLLOW_FENCE), 300) != []


@pytest.mark.long
def test_frozen_in_the_middle_of_its_transaction_it_gives_way(product: Product) -> None:
    first = product.service("follow")
    try:
        with product.witness.held("seen"):
            (run,) = product.submit(talking(product, until="seen"))
            wait_for(lambda: product.text(run), "its first lines", 60)
            with locked(product, "SELECT 1 FROM tasks_run WHERE id = %s FOR UPDATE", run):
                wait_for(lambda: product.blocked("ORDER BY r.id FOR UPDATE"), "the follower at its transaction")
                freeze(first)
            owner = leases(product, run)
            with second_follower(product):
                wait_for(lambda: leases(product, run) != owner, "the other one at work", 40)
                wake(first)
        assert product.ended(run, 90)["status"] == "succeeded"
    finally:
        wake(first)
    assert product.faults(run) == []
