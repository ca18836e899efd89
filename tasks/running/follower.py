"""The follower: one asyncio process that reads the journals of many runs and stores their events.

It never trusts a stream: what counts is the offset in the sandbox's row, which moves in the transaction that stores
the events. It takes runs by lease; a lease is a fencing token, checked by the database's clock in that transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection

from agents import registry
from sandboxes.base import Command, CommandName
from sandboxes.base import Sandbox as Box
from sandboxes.errors import AccountRefused, SandboxError, SandboxGone
from tasks.errors import AppError
from tasks.models import Beats, Credential, Variable
from tasks.running import backends, counting, events, heartbeats, log_context, model_access, nudge, refusals
from tasks.running.journal import Reader
from tasks.running.prices import Prices
from tasks.running.redact import Redactor
from tasks.running.worker import IDLE_OPTION

logger = logging.getLogger(__name__)

CLAIM_S = 0.3  # how often it looks for new runs and for stop requests
FLUSH_S = 0.4  # how long news of a run may wait for company
UNREACHABLE_S = 5.0  # until a sandbox is tried again whose backend does not answer
MOST_BYTES = 1024 * 1024  # of one run in one transaction

_CLAIM = """
UPDATE tasks_run r SET lease_owner = %(me)s, lease_until = clock_timestamp() + make_interval(secs => %(ttl)s)
FROM tasks_sandbox s
WHERE s.run_id = r.id AND s.generation = r.generation AND s.ref <> '' AND s.host IN ('', %(host)s)
  AND r.status = 'running' AND NOT r.id = ANY(%(held)s)
  AND (r.lease_owner IN ('', %(me)s) OR r.lease_until < clock_timestamp() OR r.lease_owner LIKE %(dead)s)
RETURNING r.id, r.generation, r.agent, r.task_id, s.backend, s.ref, s."offset", s.parse_state
"""
_RENEW = """
UPDATE tasks_run SET lease_until = clock_timestamp() + make_interval(secs => %(ttl)s)
WHERE id = ANY(%(held)s) AND lease_owner = %(me)s AND status = 'running'
RETURNING id, generation, stop_requested_at IS NOT NULL
"""
_LOOK = """
SELECT id, generation, stop_requested_at IS NOT NULL FROM tasks_run
WHERE id = ANY(%(held)s) AND lease_owner = %(me)s AND status = 'running'
"""

# Each of them once, and a moment early, so that the dispatch can be on time.
_DUE = """
UPDATE tasks_creationbucket b SET wake_at = NULL FROM (
    SELECT backend, wake_at FROM tasks_creationbucket
    WHERE wake_at <= clock_timestamp() + make_interval(secs => %(ahead)s) FOR UPDATE SKIP LOCKED
) due WHERE b.backend = due.backend
RETURNING greatest(0, extract(epoch FROM due.wake_at - clock_timestamp()))::float
"""


@dataclass
class Followed:
    """One run that this follower holds. `chunks` is bounded, so a flood waits in the journal, not here."""

    reader: Reader
    box: Box
    chunks: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(maxsize=4))
    task: asyncio.Task[None] | None = None
    is_stopped: bool = False
    is_at_end: bool = False
    is_unreachable: bool = False  # its journal broke off, but the sandbox may be there


class Follower:
    def __init__(self) -> None:
        self.host = settings.HOST_NAME
        # Only one follower a host runs at a time (it holds a lock file), so leases of earlier ones here are dead.
        self.me = f"follow:{self.host}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.held: dict[int, Followed] = {}
        self.put_off: dict[int, float] = {}  # runs that could not be reached → when to try again, by the monotonic clock
        self.news = asyncio.Event()
        self._pulse = heartbeats.Pulse(Beats.FOLLOW)
        self._uncounted = 0  # events
        self._dispatches: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Follow until canceled; a database that is away is waited for."""
        while True:
            try:
                async with await self._connect() as claims, await self._connect() as writes, asyncio.TaskGroup() as group:
                    group.create_task(self._claim_forever(claims))
                    group.create_task(self._flush_forever(writes))
            except* psycopg.OperationalError as failed:
                logger.warning("The database is away (%s); trying again.", failed.exceptions[0])
            finally:
                await self._drop(list(self.held))
            await asyncio.sleep(1)

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        params = connection.get_connection_params()
        wanted = {key: value for key, value in params.items() if key not in ("cursor_factory", "context", "prepare_threshold")}
        wanted["options"] = f"{wanted.get('options', '')} {IDLE_OPTION}".strip()
        return await psycopg.AsyncConnection.connect(**wanted, autocommit=True)

    # --- which runs -------------------------------------------------------------------------------------------------

    async def _claim_forever(self, conn: psycopg.AsyncConnection[Any]) -> None:
        renewed_at = 0.0
        while True:
            await self._claim(conn)
            is_due = time.monotonic() - renewed_at > settings.FOLLOW_LEASE_S / 4
            await self._look(conn, _RENEW if is_due else _LOOK)
            renewed_at = time.monotonic() if is_due else renewed_at
            await self._wake_queue(conn)
            if self._pulse.is_due:
                await self._beat(conn)
            await asyncio.sleep(CLAIM_S)

    async def _beat(self, conn: psycopg.AsyncConnection[Any]) -> None:
        await conn.execute(heartbeats.BEAT, heartbeats.params(Beats.FOLLOW))
        count, self._uncounted = self._uncounted, 0
        await sync_to_async(counting.EVENTS.add, thread_sensitive=False)(count)

    async def _wake_queue(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Have the queue dispatched when what its runs wait for is there; should we die meanwhile, reconcile does it later."""
        for (seconds,) in await (await conn.execute(_DUE, {"ahead": CLAIM_S})).fetchall():
            task = asyncio.create_task(self._dispatch_in(seconds), name="dispatch")
            self._dispatches.add(task)
            task.add_done_callback(self._dispatches.discard)

    async def _dispatch_in(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await sync_to_async(nudge.enqueue_now, thread_sensitive=False)(settings.QUEUE_RUNS, "dispatch")

    def _params(self) -> dict[str, Any]:
        dead = f"follow:{self.host}:%"
        return {"me": self.me, "host": self.host, "dead": dead, "ttl": settings.FOLLOW_LEASE_S, "held": list(self.held)}

    async def _claim(self, conn: psycopg.AsyncConnection[Any]) -> None:
        params = self._params()
        self.put_off = {run_id: at for run_id, at in self.put_off.items() if at > time.monotonic()}
        cursor = await conn.execute(_CLAIM, params | {"held": [*params["held"], *self.put_off]})
        for claimed in await cursor.fetchall():
            run_id, _, _, task_id, *_ = claimed
            with log_context.about(run=run_id, task=task_id):
                await self._take(conn, claimed)

    async def _take(self, conn: psycopg.AsyncConnection[Any], claimed: tuple[Any, ...]) -> None:
        """Follow a run that was claimed, or have done what follows from it that it cannot be followed."""
        run_id, generation, agent, task_id, backend, ref, offset, state = claimed
        try:
            turns, secrets = await self._about(conn, run_id, task_id)
            if backend != "local":
                secrets |= await self._keys(conn, task_id)
            prices = await self._prices(conn)
            reader = Reader(run_id, generation, offset, state, registry.adapter(agent), Redactor(secrets), turns, prices)
            box = await backends.backend(backend).connect(ref)
        except SandboxGone:
            await self._job("sandbox_lost", run_id, generation)
            return
        except AccountRefused as error:
            await self._job("give_up", run_id, generation, refusals.said_of(error, has_sandbox=True))
            return
        except SandboxError as error:
            logger.warning("The sandbox of run %s cannot be reached (%s); trying again.", run_id, error)
            self.put_off[run_id] = time.monotonic() + UNREACHABLE_S
            return
        except (AppError, registry.UnknownAgentError) as error:
            await self._job("give_up", run_id, generation, str(error))
            return
        followed = self.held[run_id] = Followed(reader, box)
        followed.task = asyncio.create_task(self._read(followed), name=f"read run {run_id}")

    async def _about(self, conn: psycopg.AsyncConnection[Any], run_id: int, task_id: int) -> tuple[dict[int, int], dict[str, str]]:
        cursor = await conn.execute("SELECT number, id FROM tasks_turn WHERE run_id = %s", [run_id])
        turns = dict(await cursor.fetchall())
        cursor = await conn.execute(
            "SELECT v.name, v.value_encrypted FROM tasks_variable v JOIN tasks_task t ON t.repo_id = v.repo_id"
            " WHERE t.id = %s AND v.is_secret",
            [task_id],
        )
        return turns, {name: Variable(value_encrypted=value).value for name, value in await cursor.fetchall()}

    async def _keys(self, conn: psycopg.AsyncConnection[Any], task_id: int) -> dict[str, str]:
        """The keys that could be in a sandbox elsewhere, as `model_access.secrets` has them."""
        cursor = await conn.execute(
            "SELECT owner_id, provider, secret_encrypted FROM tasks_credential"
            " WHERE owner_id IS NULL OR owner_id = (SELECT owner_id FROM tasks_task WHERE id = %s)",
            [task_id],
        )
        rows = await cursor.fetchall()
        return model_access.called(Credential(owner_id=owner, provider=of, secret_encrypted=secret) for owner, of, secret in rows)

    async def _prices(self, conn: psycopg.AsyncConnection[Any]) -> Prices:
        cursor = await conn.execute("SELECT model, input_usd, cached_usd, cache_write_usd, output_usd FROM tasks_price")
        return Prices.of(await cursor.fetchall())

    async def _look(self, conn: psycopg.AsyncConnection[Any], query: str) -> None:
        """Let go of runs that are not ours any more, and deliver stop requests."""
        if not self.held:
            return
        cursor = await conn.execute(query, self._params())
        rows = {row[0]: row[1:] for row in await cursor.fetchall()}
        gone = [run_id for run_id, held in self.held.items() if rows.get(run_id, (None,))[0] != held.reader.generation]
        await self._drop(gone)
        for run_id, (_, is_stop_requested) in rows.items():
            held = self.held.get(run_id)
            if held is not None and is_stop_requested and not held.is_stopped:
                held.is_stopped = True
                asyncio.create_task(self._stop(held), name=f"stop run {run_id}")  # noqa: RUF006 (it ends by itself)

    async def _stop(self, held: Followed) -> None:
        try:
            await held.box.tell(Command(CommandName.STOP))
        except SandboxGone:
            await self._job("sandbox_lost", held.reader.run_id, held.reader.generation)
        except SandboxError as error:
            logger.warning("Run %s was not told to stop (%s); trying again.", held.reader.run_id, error)
            held.is_stopped = False

    async def _drop(self, run_ids: list[int]) -> None:
        for run_id in run_ids:
            held = self.held.pop(run_id, None)
            if held is not None and held.task is not None:
                held.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await held.task

    # --- what they say ----------------------------------------------------------------------------------------------

    async def _read(self, held: Followed) -> None:
        run_id = held.reader.run_id
        try:
            async for chunk in held.box.journal(held.reader.offset):
                await held.chunks.put(chunk)
                self.news.set()
        except SandboxError as error:
            logger.warning("The journal of run %s stopped (%s).", run_id, error)
            held.is_unreachable = not isinstance(error, SandboxGone)
        except OSError:
            logger.exception("The journal of run %s cannot be read.", run_id)
        held.is_at_end = True
        self.news.set()

    async def _flush_forever(self, conn: psycopg.AsyncConnection[Any]) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            await self._flush(conn)
            await asyncio.sleep(FLUSH_S)

    def _waiting(self) -> Iterator[tuple[Followed, bytes]]:
        for held in list(self.held.values()):
            data = bytearray()
            while len(data) < MOST_BYTES and not held.chunks.empty():
                data += held.chunks.get_nowait()
            if data:
                yield held, bytes(data)

    async def _flush(self, conn: psycopg.AsyncConnection[Any]) -> None:
        taken = [(held, *held.reader.take(data)) for held, data in self._waiting()]
        batches = [batch for _, batch, _ in taken if batch.new_offset != batch.old_offset]
        stored = await events.store(conn, self.me, batches) if batches else set()
        self._uncounted += sum(len(batch.events) for batch in batches if batch.run_id in stored)
        await self._drop([batch.run_id for batch in batches if batch.run_id not in stored])
        for held, batch, announced in taken:
            if batch.run_id in stored:
                await self._after(held, batch, announced)
        await nudge.tell_async([nudge.run_group(batch.run_id) for batch in batches if batch.run_id in stored and batch.events])
        for held in list(self.held.values()):
            if not held.chunks.empty():
                self.news.set()
            elif held.is_at_end:
                await self._at_end(held)

    async def _after(self, held: Followed, batch: events.Batch, announced: list[str]) -> None:
        """What follows from a batch that is stored."""
        if batch.outcome is not None:
            await self._job("finish_turn", batch.run_id, batch.generation)
        elif "checkpoint" in announced:
            turn_id = held.reader.turn_ids.get(held.reader.state.get("turn", 0))
            await self._job("collect_checkpoint", batch.run_id, turn_id, batch.generation)

    async def _at_end(self, held: Followed) -> None:
        """The journal is over. If the turn is not, the sandbox was lost."""
        run_id, generation = held.reader.run_id, held.reader.generation
        await self._drop([run_id])
        if held.is_unreachable:
            self.put_off[run_id] = time.monotonic() + UNREACHABLE_S
        elif held.reader.ended is None:
            await self._job("sandbox_lost", run_id, generation)

    async def _job(self, job: str, *args: Any) -> None:
        await sync_to_async(nudge.enqueue_now, thread_sensitive=False)(settings.QUEUE_HOST, job, *args)
