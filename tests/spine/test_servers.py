"""The servers behind it may be emptied or die: rows are the truth, so every run ends well and its log is exact."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psycopg
import pytest

from asynccode.processes import pids_in
from asynccode.servers import Postgres, Valkey
from tests.spine.points import held
from tests.spine.product import BRISK, Product, chatty, wait_for

ENVIRONMENT = BRISK


@pytest.fixture(autouse=True)
def _listed_workers(product: Product) -> Iterator[None]:
    """The tests that come after find them in Valkey."""
    yield
    product.renew_workers()


def test_an_emptied_valkey_loses_nothing(product: Product) -> None:
    with held(product):
        runs = product.submit(product.witness.call("flushed") + chatty(20, 3, 0.1), attempts=6)
        product.valkey.flushall()
    for status in ("starting", "running", "succeeded"):
        wait_for(lambda: product.rows("SELECT 1 FROM tasks_run WHERE status = %s AND id = ANY(%s)", status, runs), status)  # noqa: B023
        product.valkey.flushall()
    for run in runs:
        settled = product.settled(run, 90)
        assert settled["status"] == "succeeded", settled
        assert product.faults(run) == []
    assert product.witness.count("flushed") == len(runs)
    product.is_clean()


def test_workers_that_lost_their_database_start_the_next_runs_at_the_first_try(product: Product) -> None:
    for run in product.submit("true", attempts=6):  # so that every worker has used all the connections it uses
        product.settled(run, 60)
    pid = postmaster(product)
    os.kill(pid, signal.SIGQUIT)
    wait_for(lambda: pid not in pids_in(product.data / "postgres", Postgres.programs), "its end")
    wait_for(lambda: is_up(product), "the database", 60)
    for run in product.submit("true", attempts=6):
        settled = product.settled(run, 60)
        assert (settled["status"], settled["start_tries"], settled["generation"]) == ("succeeded", 0, 1), settled
    product.is_clean()


def postmaster(product: Product) -> int:
    return int((product.data / "postgres" / "postmaster.pid").read_text().split()[0])


@pytest.mark.long
def test_a_killed_database_comes_back_and_no_line_is_lost(product: Product) -> None:
    runs = product.submit(product.witness.call("killed") + chatty(40, 10, 0.1), attempts=3)
    for _ in range(2):
        before = sum(product.run(run)["next_seq"] for run in runs)
        wait_for(lambda: sum(product.run(run)["next_seq"] for run in runs) > before + 5, "lines of the script")  # noqa: B023
        pid = postmaster(product)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: pid not in pids_in(product.data / "postgres", Postgres.programs), "its end")  # noqa: B023
        wait_for(lambda: is_up(product), "the database", 60)
    for run in runs:
        settled = product.settled(run, 90)
        assert settled["status"] == "succeeded", settled
        assert product.faults(run) == []
    assert product.witness.count("killed") == 3
    product.is_clean()


def test_a_database_that_stops_at_once_and_a_killed_valkey_cost_nothing(product: Product) -> None:
    runs = product.submit(product.witness.call("stopped") + chatty(20, 10, 0.1), attempts=3)
    wait_for(lambda: any(product.run(run)["status"] == "running" for run in runs), "a running one", 90)
    os.kill(postmaster(product), signal.SIGQUIT)  # pg_ctl restart -m immediate
    for pid in pids_in(product.data / "valkey", Valkey.programs):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_up(product), "the database", 60)
    for run in runs:
        settled = product.settled(run, 90)
        assert settled["status"] == "succeeded", settled
        assert product.faults(run) == []
    assert product.witness.count("stopped") == 3
    product.is_clean()


def is_up(product: Product) -> bool:
    try:
        return product.rows("SELECT 1 AS one") == [{"one": 1}]
    except psycopg.OperationalError:
        return False
