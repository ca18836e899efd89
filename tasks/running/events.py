"""The one way events are written: `seq` is taken from the run's row under its lock, so numbers have no gap and no double."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from tasks.models import Event, EventKind, Run
from tasks.running import nudge


def clean(value: Any) -> Any:
    """`value` as PostgreSQL can keep it: NULs become U+2400, halves of surrogate pairs U+FFFD."""
    dumped = json.dumps(value)
    if "\\u0000" not in dumped and "\\ud" not in dumped:
        return value
    return _clean(value)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "␀").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def append(run_id: int, kind: EventKind, data: dict[str, Any], *, turn_id: int | None = None) -> int:
    """Write one event of a run and give its seq."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tasks_run SET next_seq = next_seq + 1 WHERE id = %s RETURNING next_seq - 1", [run_id])
            row = cursor.fetchone()
        if row is None:
            raise Run.DoesNotExist(f"Run {run_id} does not exist.")
        Event.objects.create(run_id=run_id, seq=row[0], turn_id=turn_id, kind=kind, data=clean(data), at=timezone.now())
        nudge.tell([nudge.run_group(run_id)])
    return int(row[0])


TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


@dataclass
class TurnNews:
    """What a stretch of the journal adds to what is known of a turn."""

    conversation: str = ""
    answer: str = ""
    tokens: list[int] = field(default_factory=lambda: [0] * len(TOKENS))
    cost_usd: Decimal | None = None


@dataclass
class Batch:
    """What one stretch of a run's journal amounts to. `events` are (turn id, kind, data, seconds since the epoch)."""

    run_id: int
    generation: int
    old_offset: int
    new_offset: int
    parse_state: dict[str, Any]
    events: list[tuple[int | None, str, dict[str, Any], float]] = field(default_factory=list)
    stage: str | None = None
    outcome: tuple[int, dict[str, Any]] | None = None  # turn id, what the journal's end record said
    turns: dict[int, TurnNews] = field(default_factory=dict)  # by id


_LOCK = """
SELECT r.id FROM tasks_run r JOIN tasks_sandbox s ON s.run_id = r.id AND s.generation = r.generation
JOIN unnest(%(ids)s::bigint[], %(generations)s::int[], %(olds)s::bigint[]) AS i(id, generation, old)
  ON i.id = r.id AND i.generation = r.generation AND i.old = s."offset"
WHERE r.lease_owner = %(owner)s AND r.lease_until > clock_timestamp()
ORDER BY r.id FOR UPDATE
"""
_MOVE_OFFSETS = """
UPDATE tasks_sandbox s SET "offset" = i.new, parse_state = i.state, seen_at = clock_timestamp()
FROM unnest(%(ids)s::bigint[], %(generations)s::int[], %(olds)s::bigint[], %(news)s::bigint[], %(states)s::jsonb[])
  AS i(id, generation, old, new, state)
WHERE s.run_id = i.id AND s.generation = i.generation AND s."offset" = i.old
"""
_TAKE_SEQS = """
UPDATE tasks_run r SET next_seq = r.next_seq + i.count, stage = coalesce(i.stage, r.stage)
FROM unnest(%(ids)s::bigint[], %(counts)s::bigint[], %(stages)s::text[]) AS i(id, count, stage)
WHERE r.id = i.id RETURNING r.id, r.next_seq - i.count
"""
_END_TURNS = """
UPDATE tasks_turn t SET outcome = i.outcome FROM unnest(%(ids)s::bigint[], %(outcomes)s::jsonb[]) AS i(id, outcome)
WHERE t.id = i.id AND t.outcome IS NULL
"""
_ADD = ", ".join(f"{column} = x.{column} + i.{column}" for column in TOKENS)
_ADD_COST = "cost_usd = CASE WHEN i.cost_usd IS NULL THEN x.cost_usd ELSE coalesce(x.cost_usd, 0) + i.cost_usd END"
_COUNTED = ", ".join(f"%({column})s::bigint[]" for column in TOKENS)
_TELL_TURNS = f"""
UPDATE tasks_turn x SET {_ADD}, {_ADD_COST}, conversation = coalesce(nullif(i.conversation, ''), x.conversation),
    answer = coalesce(nullif(i.answer, ''), x.answer)
FROM unnest(%(ids)s::bigint[], %(conversations)s::text[], %(answers)s::text[], {_COUNTED}, %(costs)s::numeric[])
  AS i(id, conversation, answer, {", ".join(TOKENS)}, cost_usd) WHERE x.id = i.id
"""
_TELL_RUNS = f"""
UPDATE tasks_run x SET {_ADD}, {_ADD_COST}
FROM unnest(%(runs)s::bigint[], {_COUNTED}, %(costs)s::numeric[]) AS i(id, {", ".join(TOKENS)}, cost_usd) WHERE x.id = i.id
"""
_COPY = "COPY tasks_event (run_id, seq, turn_id, kind, data, at) FROM STDIN"


async def store(conn: AsyncConnection[Any], owner: str, batches: Sequence[Batch]) -> set[int]:
    """Store batches of many runs in one transaction: offsets, parser states, events.

    Gives the ids of the runs that were stored. A run whose lease, generation or offset is no longer what the batch was
    made from is left untouched: another follower, or an earlier try of this one, has it.
    """
    async with conn.transaction():
        cursor = await conn.execute(
            _LOCK,
            {
                "owner": owner,
                "ids": [b.run_id for b in batches],
                "generations": [b.generation for b in batches],
                "olds": [b.old_offset for b in batches],
            },
        )
        held = {row[0] for row in await cursor.fetchall()}
        mine = [b for b in batches if b.run_id in held]
        if not mine:
            return held
        await conn.execute(
            _MOVE_OFFSETS,
            {
                "ids": [b.run_id for b in mine],
                "generations": [b.generation for b in mine],
                "olds": [b.old_offset for b in mine],
                "news": [b.new_offset for b in mine],
                "states": [Jsonb(b.parse_state) for b in mine],
            },
        )
        cursor = await conn.execute(
            _TAKE_SEQS,
            {"ids": [b.run_id for b in mine], "counts": [len(b.events) for b in mine], "stages": [b.stage for b in mine]},
        )
        first = dict(await cursor.fetchall())
        if ended := [b.outcome for b in mine if b.outcome is not None]:
            await conn.execute(_END_TURNS, {"ids": [e[0] for e in ended], "outcomes": [Jsonb(e[1]) for e in ended]})
        await _tell_turns(conn, mine)
        if any(b.events for b in mine):
            async with conn.cursor().copy(_COPY) as copy:
                for batch in mine:
                    for number, (turn_id, kind, data, at) in enumerate(batch.events):
                        moment = datetime.fromtimestamp(at, UTC)
                        await copy.write_row((batch.run_id, first[batch.run_id] + number, turn_id, kind, Jsonb(clean(data)), moment))
    return held


async def _tell_turns(conn: AsyncConnection[Any], batches: Sequence[Batch]) -> None:
    """Conversations, answers and usage into the turns; usage into their runs. One turn a run and batch, as turns follow each other."""
    news = [(b.run_id, turn_id, turn) for b in batches for turn_id, turn in b.turns.items()]
    if not news:
        return
    told: dict[str, Any] = {column: [turn.tokens[n] for _, _, turn in news] for n, column in enumerate(TOKENS)}
    told |= {"costs": [turn.cost_usd for _, _, turn in news]}
    told |= {"ids": [turn_id for _, turn_id, _ in news], "runs": [run_id for run_id, _, _ in news]}
    told |= {
        "conversations": [clean(turn.conversation)[:200] for _, _, turn in news],
        "answers": [clean(turn.answer) for _, _, turn in news],
    }
    await conn.execute(_TELL_TURNS, told)
    if any(any(turn.tokens) or turn.cost_usd for _, _, turn in news):
        await conn.execute(_TELL_RUNS, told)
