"""From a sandbox's journal to events: one stretch of bytes in, one Batch out. Pure; what it remembers is the parser state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agents.adapters.base import Adapter
from tasks.models import Stage
from tasks.running.events import TOKENS, Batch, TurnNews
from tasks.running.prices import Prices
from tasks.running.redact import Redactor

LOG_CHUNK = 16 * 1024  # lines of one stream that come together are stored together, up to this many characters


@dataclass
class Reader:
    """Reads the journal of one generation of a run, from `offset` on.

    `state` is JSON, kept with the offset: {"n": last record number, "turn": number that has begun, "is_set_up": bool,
    "patch": the SHA-256 of the turn's newest patch, "adapter": the adapter's own ParseState, "held": [turn, kind, id, text]
    of a streamed text whose last characters may be the beginning of a secret}.
    """

    run_id: int
    generation: int
    offset: int
    state: dict[str, Any]
    adapter: Adapter
    redactor: Redactor
    turn_ids: dict[int, int]
    prices: Prices = field(default_factory=lambda: Prices({}))
    pending: bytes = b""
    ended: int | None = field(default=None, init=False)  # the turn whose end was read last

    def take(self, data: bytes) -> tuple[Batch, list[str]]:
        """Read `data`, the bytes that follow those taken before. Gives the batch for all whole lines, and which patches were announced.

        The reader has moved on when this returns: if the batch cannot be stored, throw the reader away.
        """
        lines, end, rest = (self.pending + data).rpartition(b"\n")
        batch = Batch(self.run_id, self.generation, self.offset, self.offset + len(lines) + len(end), self.state)
        self.pending, self.offset = rest, batch.new_offset
        announced: list[str] = []
        for line in lines.split(b"\n") if end else ():
            try:
                record = json.loads(line)
                number, at = int(record["n"]), float(record["t"])
            except (ValueError, KeyError, TypeError):
                if line:
                    last = batch.events[-1][3] if batch.events else self.state.get("t", 0.0)
                    self._add(batch, None, "error", {"text": "A record of the journal could not be read.", "record": _shown(line)}, last)
                continue
            if number <= self.state.get("n", 0):
                continue  # a supervisor never numbers back; whoever wrote this, it is no record of ours
            self.state |= {"n": number, "t": at}
            self._read(batch, record, at, announced)
        batch.parse_state = self.state
        return batch, announced

    def _read(self, batch: Batch, record: dict[str, Any], at: float, announced: list[str]) -> None:
        turn, kind, step = record.get("turn"), record.get("kind"), record.get("step", "")
        if kind == "turn":
            carried = self.state.get("adapter", {}).get("carried")
            self.state |= {"turn": turn, "patch": None, "adapter": {"carried": carried} if carried else {}, "conversation": None}
        elif kind == "step":
            self._step(batch, record, at)
        elif kind in ("out", "err"):
            for event_kind, data in self._line(record, step, "stdout" if kind == "out" else "stderr"):
                self._add(batch, turn, event_kind, data, at)
            if step == "agent" and (conversation := self.state.get("adapter", {}).get("conversation")) != self.state.get("conversation"):
                self.state |= {"conversation": conversation}
                self._tell(batch, turn, conversation=str(conversation or ""))
        elif kind == "patch":
            self.state |= {"patch": str(record.get("sha256"))[:64]}
            announced.append(str(record.get("patch")))
        elif kind == "end":
            self._release(batch, at)
            self._tell(batch, turn, answer=str(self.state.get("adapter", {}).get("answer") or ""))
            self.ended = turn
            said = {key: record.get(key) for key in ("step", "reason", "code", "signal", "seconds", "has_patch", "error")}
            said |= {"sha256": self.state.get("patch")} if said["has_patch"] else {}
            if turn in self.turn_ids:
                batch.stage, batch.outcome = Stage.COLLECT, (self.turn_ids[turn], self.redactor.data(said))

    def _step(self, batch: Batch, record: dict[str, Any], at: float) -> None:
        step, turn = record["step"], record.get("turn")
        if record.get("state") == "started":
            batch.stage = step if step in Stage.values else batch.stage
            self.state |= {"is_set_up": True} if step == "agent" else {}
            self._add(batch, turn, "status", {"stage": step}, at)
        else:
            data = {key: record.get(key) for key in ("reason", "code", "signal", "seconds")}
            self._add(batch, turn, "status", {"step": step, "ended": data}, at)

    def _line(self, record: dict[str, Any], step: str, stream: str) -> Iterator[tuple[str, dict[str, Any]]]:
        line = str(record.get("line", ""))
        if cut := record.get("cut"):
            line += f" … [{cut} bytes of this line were left out]"
        if step != "agent":
            yield "log", {"stream": stream, "text": line + "\n", "step": step}
            return
        for event in self.adapter.parse(line, self.state.setdefault("adapter", {}), stream=stream):
            yield event.kind, event.data

    def _add(self, batch: Batch, turn: int | None, kind: str, data: dict[str, Any], at: float) -> None:
        turn_id = self.turn_ids.get(turn) if turn is not None else None
        if kind == "usage":
            self._count(batch, turn, data)
        if "chunk" in data:
            data = self._hold(batch, turn, kind, data, at)
        elif (held := self.state.get("held")) and held[:3] == [turn, kind, data.get("id")]:
            self.state["held"] = None  # the whole text takes the place of its chunks
        data = self.redactor.data(data)
        if "chunk" in data and batch.events:
            last_turn, last_kind, last, _ = batch.events[-1]
            if (last_turn, last_kind, last.get("id")) == (turn_id, kind, data.get("id")) and "chunk" in last:
                last["chunk"] += data["chunk"]
                return
        if data.get("chunk") == "":
            return
        if kind == "log" and batch.events:
            last_turn, last_kind, last, _ = batch.events[-1]
            same = last_kind == "log" and last_turn == turn_id and {**last, "text": ""} == {**data, "text": ""}
            if same and len(last["text"]) + len(data["text"]) <= LOG_CHUNK:
                last["text"] += data["text"]
                return
        batch.events.append((turn_id, kind, data, at))

    # What is streamed may break off within a secret: the characters with which one could begin wait for those that follow.

    def _hold(self, batch: Batch, turn: int | None, kind: str, data: dict[str, Any], at: float) -> dict[str, Any]:
        """The chunk with what was held before it and without what is held now."""
        held = self.state.get("held")
        if held and held[:3] != [turn, kind, data.get("id")]:
            self._release(batch, at)
            held = None
        safe, rest = self.redactor.split((held[3] if held else "") + str(data["chunk"]))
        self.state["held"] = [turn, kind, data.get("id"), rest] if rest else None
        return {**data, "chunk": safe}

    def _release(self, batch: Batch, at: float) -> None:
        """Nothing follows what is held, so it is no secret."""
        held, self.state["held"] = self.state.get("held"), None
        if held:
            turn, kind, which, text = held
            batch.events.append((self.turn_ids.get(turn), kind, {"id": which, "chunk": self.redactor.text(text)}, at))

    # What is known of the turn itself

    def _tell(self, batch: Batch, turn: int | None, *, conversation: str = "", answer: str = "") -> None:
        if turn in self.turn_ids and (conversation or answer):
            news = batch.turns.setdefault(self.turn_ids[turn], TurnNews())
            news.conversation = conversation or news.conversation
            news.answer = self.redactor.text(answer) or news.answer

    def _count(self, batch: Batch, turn: int | None, data: dict[str, Any]) -> None:
        cost = self.prices.of_usage(data)
        if cost is not None:
            data.setdefault("cost_usd", float(cost))
        if turn in self.turn_ids:
            news = batch.turns.setdefault(self.turn_ids[turn], TurnNews())
            news.tokens = [have + int(data.get(column) or 0) for have, column in zip(news.tokens, TOKENS, strict=True)]
            news.cost_usd = (news.cost_usd or 0) + cost if cost is not None else news.cost_usd


def _shown(line: bytes) -> str:
    return line[:200].decode(errors="replace")
