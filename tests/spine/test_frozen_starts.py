"""A start that freezes is taken over, and does no harm when it wakes up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from tests.spine import broken
from tests.spine.points import STARTS, in_create, locked
from tests.spine.product import Product, chatty, freeze, wait_for, wake


def script(product: Product, name: str) -> str:
    return product.witness.call(name) + "echo ran >> ran.txt\n" + chatty(2, 5)


def wake_and_wait(product: Product, worker: int) -> None:
    wake(worker)
    wait_for(lambda: product.is_idle(worker), "the end of the job that was frozen", 60, 0.1)


@pytest.mark.long
def test_wherever_it_freezes_the_script_runs_once(product: Product) -> None:
    frozen, runs = [], {}
    for number, catch in enumerate(STARTS.values()):
        with catch(product, script(product, f"frozen-{number}")) as caught:
            freeze(caught.worker)
        frozen.append(caught.worker)
        runs[f"frozen-{number}"] = caught.run_id
    for run in runs.values():
        assert product.settled(run)["status"] == "succeeded"

    for worker in frozen:
        wake_and_wait(product, worker)

    for name, run in runs.items():
        assert product.run(run)["status"] == "succeeded"
        assert product.witness.count(name) == 1
        assert product.files(run)["ran.txt"] == "ran\n"
        assert product.faults(run) == []
    product.is_clean()


def taken_over_and_woken(product: Product) -> int:
    """How often a script started whose first start froze, was taken over, ran to its end, and then the first woke up."""
    with in_create(product, script(product, "woken")) as caught:
        freeze(caught.worker)
    assert product.settled(caught.run_id)["status"] == "succeeded"
    wake_and_wait(product, caught.worker)
    with contextlib.suppress(AssertionError):
        wait_for(lambda: product.witness.count("woken") > 1, "a second run", 3)
    return product.witness.count("woken")


def test_taken_over_and_woken_it_ran_once(product: Product) -> None:
    assert taken_over_and_woken(product) == 1


@pytest.mark.long
def test_without_the_compare_and_set_it_would_run_twice(make_broken: Callable[..., Product]) -> None:
    assert taken_over_and_woken(make_broken(broken.NO_COMPARE_AND_SET)) == 2


def woken_while_another_starts(product: Product) -> tuple[int, bool]:
    """A run whose first start woke up while the second was at it; and whether the turn ran in the first one's sandbox."""
    with in_create(product, script(product, "overlap")) as caught:
        freeze(caught.worker)
    run = caught.run_id
    with locked(product, "LOCK TABLE tasks_sandbox IN SHARE MODE"):

        def is_taken_over() -> bool:
            product.enqueue("reconcile_all")
            return product.run(run)["generation"] == 2 and product.blocked('INSERT INTO "tasks_sandbox"')

        wait_for(is_taken_over, "the second start", 30, 0.5)
        wake(caught.worker)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: product.blocked('UPDATE "tasks_sandbox" SET "ref"'), "the first start to go on", 4)

    def is_decided() -> str:
        if any(record["kind"] == "turn" for record in product.journal(run, 1)):
            return "first"
        return "second" if product.run(run)["status"] == "succeeded" else ""

    return run, wait_for(is_decided, "a sandbox that runs the turn", 60) == "first"


@pytest.mark.long
def test_woken_while_another_starts_it_gives_way(product: Product) -> None:
    run, is_first = woken_while_another_starts(product)

    assert not is_first
    assert product.witness.count("overlap") == 1
    assert product.faults(run) == []
    product.is_clean()


@pytest.mark.long
def test_without_lease_and_generation_it_would_run_in_a_sandbox_that_nobody_follows(make_broken: Callable[..., Product]) -> None:
    assert woken_while_another_starts(make_broken(broken.NO_START_FENCE))[1]


@pytest.mark.long
def test_frozen_for_a_minute_by_the_clocks_as_they_are(make_product: Callable[..., Product]) -> None:
    product = make_product(START_LEASE_S="30")
    product.start()
    with in_create(product, script(product, "minute")) as caught:
        freeze(caught.worker)
        began = product.run(caught.run_id)["started_at"]
    run = product.ended(caught.run_id, 75)
    assert (run["status"], run["generation"]) == ("succeeded", 2)
    age = "SELECT extract(epoch FROM clock_timestamp() - %s) AS seconds"
    wait_for(lambda: product.rows(age, began)[0]["seconds"] > 60, "a minute", 70, 0.5)

    wake_and_wait(product, caught.worker)

    assert product.witness.count("minute") == 1
    assert product.faults(caught.run_id) == []
    product.is_clean()
