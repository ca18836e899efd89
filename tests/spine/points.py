"""Where a job can be caught: locks in the database that hold it at an exact place, without a hook in its code."""

from __future__ import annotations

import contextlib
import signal
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.spine.product import HOST, Product, command, freeze, send, wait_for, wake


@dataclass
class Caught:
    """A job that is held: its run and the process of its worker."""

    run_id: int
    worker: int


@contextlib.contextmanager
def locked(product: Product, statement: str, *values: Any) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that has what `statement` locks, until the block's end."""
    with product.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '60s'")  # whoever has it may wait for a lock of the test's
        connection.execute(statement, values)
        yield connection


@contextlib.contextmanager
def held(product: Product) -> Iterator[None]:
    """Nothing is started meanwhile, as while the host stops."""
    number = zlib.crc32(HOST.encode()) - 2**31
    with product.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", [0x61636F68, number])
        yield
    product.enqueue("dispatch")


@contextlib.contextmanager
def _unhurried(product: Product) -> Iterator[None]:
    """The clock stands still: on a busy machine the way to a place may take longer than a lease, and who is on it keeps it."""
    clock = product.service("rqcron")
    freeze(clock)
    try:
        yield
    finally:
        send([clock], signal.SIGCONT)  # it may have been killed


def _starting(product: Product, script: str) -> Caught:
    (run_id,) = product.submit(script)
    worker = wait_for(lambda: product.worker_at(f"start_turn({run_id}, 1)"), "start_turn at work")
    return Caught(run_id, worker)


@contextlib.contextmanager
def _at_row(product: Product, script: str) -> Iterator[Caught]:
    with locked(product, "LOCK TABLE tasks_sandbox IN SHARE MODE"):
        caught = _starting(product, script)
        wait_for(lambda: product.blocked('INSERT INTO "tasks_sandbox"'), "start_turn at the sandbox's row")
        yield caught


@contextlib.contextmanager
def before_create(product: Product, script: str) -> Iterator[Caught]:
    """It has the lease and wants to write the sandbox's row."""
    with _unhurried(product), _at_row(product, script) as caught:
        yield caught


@contextlib.contextmanager
def in_create(product: Product, script: str) -> Iterator[Caught]:
    """The sandbox's folder has just appeared."""
    with _unhurried(product):
        with _at_row(product, script) as caught:
            pass
        wait_for(lambda: product.ref(caught.run_id) in product.folders(), "the sandbox's folder", pause=0.001)
        yield caught


@contextlib.contextmanager
def before_commit(product: Product, script: str) -> Iterator[Caught]:
    """The sandbox runs, and the compare-and-set of its run is under way."""
    with _unhurried(product), contextlib.ExitStack() as stack:
        with _at_row(product, script) as caught:
            stack.enter_context(locked(product, "SELECT 1 FROM tasks_run WHERE id = %s FOR NO KEY UPDATE", caught.run_id))
        wait_for(lambda: product.blocked('UPDATE "tasks_run"'), "start_turn at the compare-and-set")
        yield caught


@contextlib.contextmanager
def before_hand_over(product: Product, script: str) -> Iterator[Caught]:
    """The run is RUNNING, and its supervisor has not been told of the turn."""
    valkey = next(pid for pid in product.pids() if "valkey-server" in command(pid))
    try:
        with before_commit(product, script) as caught:
            freeze(valkey)  # the pages are told of the commit before the supervisor is
        wait_for(lambda: product.run(caught.run_id)["status"] == "running", "the commit")
        yield caught
    finally:
        wake(valkey)


STARTS: dict[str, Callable[[Product, str], contextlib.AbstractContextManager[Caught]]] = {
    "before create": before_create,
    "in create": in_create,
    "before commit": before_commit,
    "before hand-over": before_hand_over,
}


@contextlib.contextmanager
def before_patch(product: Product, script: str) -> Iterator[Caught]:
    """finish_turn has fetched the patch, holds its run's row, and wants to store the patch."""
    with _unhurried(product), locked(product, "LOCK TABLE tasks_patch IN SHARE MODE"):
        (run_id,) = product.submit(script)
        worker = wait_for(lambda: product.worker_at(f"finish_turn({run_id}, 1)"), "finish_turn at work")
        wait_for(lambda: product.blocked('INSERT INTO "tasks_patch"'), "finish_turn at the patch")
        yield Caught(run_id, worker)


@contextlib.contextmanager
def in_patch(product: Product, script: str) -> Iterator[Caught]:
    """finish_turn is in the middle of storing the patch."""
    with contextlib.ExitStack() as stack:
        with before_patch(product, script) as caught:
            stack.enter_context(locked(product, "LOCK TABLE tasks_event IN SHARE MODE"))
        wait_for(lambda: product.blocked('INSERT INTO "tasks_event"'), "finish_turn at the patch's event")
        yield caught


@contextlib.contextmanager
def in_pause(product: Product, script: str) -> Iterator[Caught]:
    """The run is over, and its sandbox is being put to sleep."""
    with before_patch(product, script) as caught:
        pass
    wait_for(lambda: product.run(caught.run_id)["status"] == "succeeded", "the end", pause=0.001)
    yield caught


ENDS = {"before patch": before_patch, "in patch": in_patch, "in pause": in_pause}
