"""Workers may die at any point, and what carries their nudges may be emptied: every run ends well, and ran once."""

from __future__ import annotations

import os
import signal

from tests.spine.points import ENDS, STARTS
from tests.spine.product import Product, chatty


def script(product: Product, name: str) -> str:
    return product.witness.call(name) + "echo ran >> ran.txt\n" + chatty(2, 5)


def check(product: Product, runs: dict[str, int]) -> None:
    """Every run succeeded, its script ran once by whatever tells, and nothing is left behind."""
    for name, run in runs.items():
        assert product.settled(run)["status"] == "succeeded", (name, product.run(run))
        assert product.faults(run) == [], name
        assert product.files(run)["ran.txt"] == "ran\n", name
        assert product.witness.count(name) == 1, name
    product.is_clean()


def test_killed_at_any_point_of_a_start_another_goes_on(product: Product) -> None:
    runs = {}
    for number, catch in enumerate(STARTS.values()):
        with catch(product, script(product, f"start-{number}")) as caught:
            os.kill(caught.worker, signal.SIGKILL)
        runs[f"start-{number}"] = caught.run_id
    check(product, runs)


def test_killed_at_any_point_of_an_end_another_goes_on(product: Product) -> None:
    """One after the other: what holds up the end of one would hold up another's, and with it a worker."""
    for number, catch in enumerate(ENDS.values()):
        with catch(product, script(product, f"end-{number}")) as caught:
            os.kill(caught.worker, signal.SIGKILL)
        check(product, {f"end-{number}": caught.run_id})
