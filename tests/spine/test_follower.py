"""The follower may die, freeze or have a double at any moment: events have no gap, no double, and are what the script said."""

from __future__ import annotations

import os
import signal

from tests.spine.product import Product, chatty, wait_for


def test_killed_again_and_again_it_loses_and_doubles_nothing(product: Product) -> None:
    runs = product.submit(chatty(70, 30), attempts=3)
    for _ in range(3):
        before = sum(product.run(run)["next_seq"] for run in runs)
        follower = product.service("follow")
        wait_for(lambda: sum(product.run(run)["next_seq"] for run in runs) > before + 9, "events while it lives")  # noqa: B023
        os.kill(follower, signal.SIGKILL)
    for run in runs:
        assert product.ended(run)["status"] == "succeeded"

    assert [product.faults(run) for run in runs] == [[], [], []]
    assert [product.text(run).count("\n") for run in runs] == [2100] * 3
