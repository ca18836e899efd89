"""Events as the pieces of the log: what belongs together is one piece (a call and its result, the chunks of a message)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString

from agents.adapters.base import ErrorClass
from agents.adapters.shell import ShellAdapter
from tasks.marks import name_html, text_html
from tasks.models import ACTIVE, FINAL, Attachment, Event, EventKind, RunStatus, Stage, Turn, TurnKind
from tasks.running.verdicts import MOST_RETRIES
from tasks.web.shown.ansi import Terminal, log_html
from tasks.web.shown.history import Standing
from tasks.web.shown.markdown import gist, markdown_html
from tasks.web.shown.text import MOST_SHOWN, count, number, string, took
from tasks.web.shown.tools import Call, Part, Result, call_of, result_of

MOST_WHOLE = 2_000_000  # characters of one event when all of it is asked for; the raw log has the rest
MOST_ENTRIES = 100
SCRIPT = ShellAdapter.name  # whose prompts are programs

ERROR_WORDS: Mapping[str, str] = {
    ErrorClass.AUTH: "Not signed in",
    ErrorClass.CREDIT: "Out of credit",
    ErrorClass.RATE_LIMIT: "Rate limit",
    ErrorClass.OVERLOADED: "Overloaded",
    ErrorClass.MODEL: "Model",
    ErrorClass.CONTEXT: "Context is full",
    ErrorClass.HUNG: "Hung",
    ErrorClass.CRASHED: "Crashed",
    ErrorClass.KILLED: "Killed",
    "mode": "Changes thrown away",
}
ADVICE: Mapping[str, str] = {"mode": "To let the agent change files, send a follow-up as Code."}
BACK_IN_TIME = "What came after it is out of the workspace. It stays here to be read, and a branch can go on from it."


@dataclass(frozen=True)
class Entry:
    """One step of a plan."""

    status: str
    text: SafeString


NOTHING = SafeString("")


@dataclass(eq=False)
class Shown:
    """One piece of the log. `look` says which fields matter: log, network, divider, note, patch, error, prompt, message,
    thought, tool, plan or notice. `turn` is the number of the one it belongs to; `begins` and `ends` say that this one does so here."""

    seq: int
    at: datetime
    look: str
    html: SafeString = NOTHING
    label: str = ""
    stream: str = ""
    rest: int = 0  # characters that "Show all" fetches
    key: str = ""  # of a call, a result, or text in the making: its turn and the agent's own id
    is_chunk: bool = False  # text as far as it has come
    is_open: bool = False  # more may come by itself; of a stage, that its end is not known
    is_end: bool = False  # what was under way before it is over
    is_mono: bool = False
    is_refused: bool = False
    advice: str = ""
    took: str = ""
    gist: str = ""
    author: str = ""
    labels: Sequence[str] = ()
    turn: int = 0
    begins: bool = False
    ends: bool = False
    is_aside: bool = False  # the run went back to before its turn
    attachments: Sequence[Attachment] = ()
    call: Call | None = None
    result: Result | None = None
    entries: Sequence[Entry] = ()
    figures: Mapping[str, int] = field(default_factory=dict)

    @property
    def moment(self) -> SafeString:
        """Its time for programs."""
        return SafeString(self.at.isoformat())

    @property
    def clock(self) -> SafeString:
        """Its time of the day, UTC."""
        return SafeString(f"{self.at:%H:%M:%S}")

    @property
    def part(self) -> Part:
        return Part(self.html, self.rest, self.is_mono)

    @property
    def done(self) -> int:
        return sum(entry.status == "completed" for entry in self.entries)


def show(
    events: Sequence[Event],
    turns: Mapping[int, Turn],
    later: Sequence[Event] = (),
    *,
    agent: str = "",
    standings: Mapping[int, Standing] | None = None,
) -> list[Shown]:
    """Events in their order as pieces. `turns` are those of the events, as their `standings`, by id; `later` events, beyond these,
    complete what began here."""
    batch = _Batch(turns, agent, standings or {})
    for event in events:
        batch.add(event)
    for event in later:
        batch.complete(event)
    return batch.pieces()


def key_of(event: Event) -> str:
    """What says that events belong together: agents' ids are good within a turn. "" when the event has none."""
    value = data_of(event).get("id")
    return f"{event.turn_id or 0}:{str(value)[:200]}" if isinstance(value, str | int) else ""


def whole(event: Event, turn: Turn | None) -> Part:
    """All of one event's text, up to MOST_WHOLE characters."""
    data = data_of(event)
    match event.kind:
        case EventKind.TOOL_CALL:
            return call_of(event.seq, data, most=MOST_WHOLE).input or Part(NOTHING)
        case EventKind.TOOL_RESULT:
            return result_of(event.seq, event.at, data, most=MOST_WHOLE).output or Part(NOTHING)
        case EventKind.STATUS if turn is not None and data.get("status") == RunStatus.STARTING:
            return Part.of(turn.prompt, most=MOST_WHOLE, is_mono=turn.run.agent == SCRIPT)
        case EventKind.MESSAGE if is_of_user(data):
            return Part.of(string(data.get("text")), most=MOST_WHOLE)
        case EventKind.MESSAGE | EventKind.THOUGHT:
            text = string(data.get("text", data.get("chunk")))
            rest = Part.of(text[MOST_SHOWN:], most=MOST_WHOLE)
            html = f'{markdown_html(text[:MOST_SHOWN])}<p class="as-written">{rest.html}</p>'
            return Part(SafeString(html), rest.rest, is_mono=False, is_markdown=True)
        case _:
            return Part.of(string(data.get("text")), most=MOST_WHOLE, colours=True)


def data_of(event: Event) -> Mapping[str, Any]:
    return event.data if isinstance(event.data, dict) else {"text": string(event.data)}


def is_of_user(data: Mapping[str, Any]) -> bool:
    """Whether a message is what a user said to the agent while it was at work."""
    return data.get("from") == "user"


class _Batch:
    def __init__(self, turns: Mapping[int, Turn], agent: str, standings: Mapping[int, Standing]) -> None:
        self._turns = turns
        self._agent = agent
        self._standings = standings
        self._pieces: list[Shown] = []
        self._terminals: dict[str, Terminal] = {}
        self._texts: dict[str, tuple[Shown, list[str]]] = {}  # in the making
        self._calls: dict[str, Shown] = {}  # without a result so far
        self._stage: Shown | None = None

    def add(self, event: Event) -> None:
        data = data_of(event)
        match event.kind:
            case EventKind.LOG:
                self._log(event, data)
            case EventKind.MESSAGE if is_of_user(data):
                self._said(event, string(data.get("text")), "while it worked")
            case EventKind.MESSAGE | EventKind.THOUGHT:
                self._text(event, data)
            case EventKind.TOOL_CALL:
                piece = self._piece(event, "tool", key=key_of(event), call=call_of(event.seq, data))
                self._calls[piece.key] = piece
            case EventKind.TOOL_RESULT:
                if not self.complete(event):
                    self._piece(event, "tool", key=key_of(event), result=result_of(event.seq, event.at, data))
            case EventKind.PLAN:
                self._plan(event, data)
            case EventKind.USAGE:
                if sentence := _usage(data):
                    self._piece(event, "note", html=text_html(sentence))
            case EventKind.ERROR:
                self._error(event, data)
            case _:
                self._status(event, data)

    def complete(self, event: Event) -> bool:
        """Take in the result of a call, or the final text of chunks, that were here; False when they were not."""
        key, data = key_of(event), data_of(event)
        if event.kind == EventKind.TOOL_RESULT and key in self._calls:
            call = self._calls.pop(key)
            call.result = result_of(event.seq, event.at, data)
            if call.result.seconds is None:
                call.result.seconds = max(0.0, (event.at - call.at).total_seconds())
            return True
        if event.kind in (EventKind.MESSAGE, EventKind.THOUGHT) and "chunk" not in data and key in self._texts:
            piece, _ = self._texts.pop(key)
            self._pieces.remove(piece)  # it is shown where the final text is
            return True
        return False

    def pieces(self) -> list[Shown]:
        for piece, chunks in self._texts.values():
            text = "".join(chunks)
            piece.html, piece.rest = text_html(text[:MOST_SHOWN]), max(0, len(text) - MOST_SHOWN)
            piece.gist = gist(text)
        plans = [piece for piece in self._pieces if piece.look == "plan"]
        for plan in plans[-1:]:
            plan.is_open = True
        return list(self._with_heads())

    def _with_heads(self) -> Iterator[Shown]:
        """The pieces, with a word where they begin in the middle of a turn that was set aside."""
        turn = 0
        for piece in self._pieces:
            if piece.is_aside and piece.turn != turn and not piece.begins:
                text = text_html(f"Set aside: turn {piece.turn}")
                yield Shown(piece.seq, piece.at, "note", html=text, turn=piece.turn, is_aside=True)
            turn = piece.turn
            yield piece

    def _standing(self, event: Event) -> Standing:
        return self._standings.get(event.turn_id or 0, Standing())

    def _piece(self, event: Event, look: str, **more: Any) -> Shown:
        piece = Shown(event.seq, event.at, look, is_aside=self._standing(event).is_aside, **more)
        turn = self._turns.get(event.turn_id or 0)
        piece.turn = turn.number or 0 if turn else 0
        if piece.is_chunk or (piece.call is not None and piece.result is None):
            piece.is_open = turn is not None and turn.status in ACTIVE
        self._pieces.append(piece)
        return piece

    def _log(self, event: Event, data: Mapping[str, Any]) -> None:
        stream, text = string(data.get("stream"))[:40], string(data.get("text"))
        if stream == "network" and isinstance(attempt := data.get("attempt"), dict):
            is_refused = attempt.get("is_allowed") is False
            sentence = text.strip().removeprefix("Refused: ") if is_refused else text.strip()
            self._piece(event, "network", html=text_html(sentence[:MOST_SHOWN]), is_refused=is_refused)
            return
        terminal = self._terminals.setdefault(stream, Terminal())
        rest = max(0, len(text) - MOST_SHOWN)
        self._piece(event, "log", html=terminal.html(text[:MOST_SHOWN]), stream=stream, rest=rest, is_mono=True)

    def _text(self, event: Event, data: Mapping[str, Any]) -> None:
        key = key_of(event)
        if "chunk" in data:
            if key not in self._texts:
                self._texts[key] = (self._piece(event, event.kind, key=key, is_chunk=True), [])
            self._texts[key][1].append(string(data["chunk"]))
            return
        begun, _ = self._texts.pop(key, (None, None))
        if begun is not None:
            self._pieces.remove(begun)
        text = string(data.get("text"))
        if not text.strip():
            return
        self._piece(
            event,
            event.kind,
            key=key,
            html=markdown_html(text[:MOST_SHOWN]),
            rest=max(0, len(text) - MOST_SHOWN),
            gist=gist(text),
            took=took((event.at - begun.at).total_seconds()) if begun is not None else "",
        )

    def _plan(self, event: Event, data: Mapping[str, Any]) -> None:
        found = data.get("entries")
        entries = [entry for entry in found[:MOST_ENTRIES] if isinstance(entry, dict)] if isinstance(found, list) else []
        known = ("completed", "in_progress")
        steps = [
            Entry(status if (status := string(entry.get("status"))) in known else "pending", name_html(string(entry.get("content"))[:500]))
            for entry in entries
        ]
        if steps:
            self._piece(event, "plan", entries=steps)

    def _error(self, event: Event, data: Mapping[str, Any]) -> None:
        text, name = string(data.get("text")), string(data.get("class"))
        label = ERROR_WORDS.get(name, "Error")
        advice = text_html((string(data.get("advice")) or ADVICE.get(name, ""))[:MOST_SHOWN])
        rest = max(0, len(text) - MOST_SHOWN)
        self._piece(event, "error", html=log_html(text[:MOST_SHOWN]), label=label, advice=advice, rest=rest)

    # --- status ---------------------------------------------------------------------------------------------------------

    def _status(self, event: Event, data: Mapping[str, Any]) -> None:
        status, stage = string(data.get("status")), string(data.get("stage"))
        if status == RunStatus.RUNNING:  # the stages that follow say more
            if text := self._standing(event).begins:
                self._piece(event, "note", html=text_html(text))
        elif status in RunStatus.values:
            self._moved(event, data, RunStatus(status))
        elif stage in Stage.values:
            self._end_stage(event)
            self._stage = self._piece(event, "divider", html=text_html(Stage(stage).label), is_open=True, is_end=True)
        elif isinstance(ended := data.get("ended"), dict):
            look, sentence = _ended(string(data.get("step"))[:40].capitalize(), ended)
            self._piece(event, look, html=text_html(sentence), label="" if look == "note" else "Error")
        elif isinstance(prepared := data.get("prepared"), dict):
            self._piece(event, "note", html=text_html(_prepared(prepared)))
        elif isinstance(notice := data.get("notice"), str):
            self._piece(event, "notice", html=text_html(notice[:MOST_SHOWN]))
        elif "reverted_to" in data:
            to = int(number(data["reverted_to"]) or 0)
            self._piece(event, "divider", html=text_html(f"Went back to turn {to}" if to else "Went back to the beginning"), begins=True)
            self._piece(event, "note", html=text_html(BACK_IN_TIME))
        elif "patch" in data:
            figures = {name: int(number(data.get(name)) or 0) for name in ("files", "additions", "deletions")}
            self._piece(event, "patch", label="Checkpoint" if data["patch"] == "checkpoint" else "Patch", figures=figures)
        elif "artifacts" in data:
            self._piece(event, "note", html=text_html(_artifacts(data)))
        else:
            self._piece(event, "note", html=text_html(string(data)[:MOST_SHOWN]))

    def _moved(self, event: Event, data: Mapping[str, Any], status: RunStatus) -> None:
        if status == RunStatus.STARTING:
            self._begin(event)
        self._end_stage(event)
        error = string(data.get("error"))
        if error:
            piece = self._piece(event, "error", html=text_html(error[:MOST_SHOWN]), label=status.label, is_end=True)
        else:
            piece = self._piece(event, "divider", html=text_html(status.label), is_end=True)
        turn = self._turns.get(event.turn_id or 0)
        piece.ends = status in (*FINAL, RunStatus.WAITING) and turn is not None and turn.started_at is not None

    def _begin(self, event: Event) -> None:
        turn = self._turns.get(event.turn_id or 0)
        if turn is None:
            return
        if turn.kind == TurnKind.RETRY:
            text = f"Tries again by itself ({turn.retries + 1} of {MOST_RETRIES + 1})"
            self._piece(event, "note", html=text_html(text), begins=True)
            return
        standing = self._standing(event)
        labels = [label for label in (standing.mode, "Set aside" if standing.is_aside else "") if label]
        piece = self._said(event, turn.prompt, *labels)
        piece.begins, piece.attachments = True, list(turn.attachments.all())

    def _said(self, event: Event, text: str, *labels: str) -> Shown:
        """What a user said: a turn's prompt, or a message to an agent at work."""
        turn = self._turns.get(event.turn_id or 0)
        author = (turn.author.display_name or turn.author.username) if turn and turn.author else ""
        return self._piece(
            event,
            "prompt",
            html=text_html(text[:MOST_SHOWN]),
            rest=max(0, len(text) - MOST_SHOWN),
            is_mono=self._agent == SCRIPT,
            author=name_html(author),
            labels=labels,
        )

    def _end_stage(self, event: Event) -> None:
        if self._stage is not None:
            self._stage.took = took((event.at - self._stage.at).total_seconds())
            self._stage.is_open = False
        self._stage = None


def _usage(data: Mapping[str, Any]) -> str:
    tokens = sum(number(data.get(name)) or 0 for name in ("input_tokens", "output_tokens"))
    cost = number(data.get("cost_usd"))
    parts = [f"{count(tokens)} token{'' if tokens == 1 else 's'}"] if tokens else []
    if cost is not None:
        parts.append(f"${cost:,.2f}" if cost >= 0.01 or cost == 0 else "under $0.01")
    return " · ".join(parts)


def _prepared(data: Mapping[str, Any]) -> str:
    """What stands where the setup script would."""
    at, seconds = parse_datetime(string(data.get("at"))[:40]), number(data.get("seconds"))
    built = f" of {at:%-d %B %Y, %H:%M} UTC" if at else ""
    saved = f"; saved {took(seconds)}" if seconds is not None else ""
    return f"Setup: prepared environment{built}{saved}"


def _artifacts(data: Mapping[str, Any]) -> str:
    """What was kept beside the patch, and what was not."""
    kept, left_out = int(number(data.get("artifacts")) or 0), [string(path) for path in data.get("left_out") or []]
    said = f"{kept} artifact{'' if kept == 1 else 's'} kept" if kept or not left_out else "No artifact kept"
    return f"{said}; left out: {', '.join(left_out)}"[:MOST_SHOWN] if left_out else said


def _ended(step: str, data: Mapping[str, Any]) -> tuple[str, str]:
    """How the end of a step looks, and its sentence."""
    seconds = number(data.get("seconds"))
    after = f" after {took(seconds)}" if seconds is not None else ""
    reason, code = string(data.get("reason"))[:200], string(data.get("code"))[:20]
    if reason == "exit" and data.get("code") == 0:
        return "note", f"{step} done{after}"
    if data.get("signal"):
        return "error", f"{step} was ended by signal {string(data['signal'])[:20]}{after} ({reason})"
    return "error", f"{step} ended with {f'exit code {code}' if reason == 'exit' else reason or 'no word'}{after}"
