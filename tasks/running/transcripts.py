"""What was said in a run before: to be resumed by the agent itself, or told to it when its sandbox is new."""

from __future__ import annotations

from tasks.models import Event, EventKind, Run, Turn, TurnKind

MOST = 200_000  # characters; of a longer one the beginning is left out
_MOST_EVENTS = 2_000  # of a whole run: more than there is room for
_MOST_OF_ONE = 4_000  # of one tool's input or output
_KINDS = (EventKind.MESSAGE, EventKind.TOOL_CALL, EventKind.TOOL_RESULT, EventKind.ERROR)


def conversation(turn: Turn, generation: int) -> str:
    """The agent's own id of the conversation this turn goes on with: that of the newest turn before it in the same sandbox."""
    before = (t for t in reversed(history(turn)) if (t.run_id, t.generation) == (turn.run_id, generation) and t.conversation)
    return next((t.conversation for t in before), "")


def history(turn: Turn) -> list[Turn]:
    """The turns whose work this one goes on from, the oldest first: without those that were reverted, and of a branch
    beginning with those of the run that it came from."""
    return _until(turn.run, turn.number)


def _until(run: Run, before: int) -> list[Turn]:
    inherited = _until(run.parent, run.parent_turn + 1) if run.parent and run.parent_turn is not None else []
    return [*inherited, *_standing(run, before)]


def _standing(run: Run, before: int) -> list[Turn]:
    """The turns of a run below number `before` that have begun and still count."""
    standing: list[Turn] = []
    for turn in Turn.objects.filter(run=run, number__lt=before).order_by("number"):
        if turn.kind == TurnKind.REVERT and turn.reverts_to is not None:
            to = turn.reverts_to
            standing = [earlier for earlier in standing if earlier.number <= to]
        elif turn.started_at is not None or turn.joined_id is not None:
            standing.append(turn)
    return standing


def text(turn: Turn) -> str:
    """The history as Markdown; "" when there is none."""
    parts = []
    for earlier in history(turn):
        parts.append(f"## User\n\n{earlier.prompt}")
        parts += [part for event in _events(earlier) if (part := _shown(event))]
    if turn.generation not in (None, turn.run.generation):  # it had begun in a sandbox that was lost
        begun = [part for event in _events(turn) if (part := _shown(event))]
        parts += [f"## User\n\n{turn.prompt}", *begun, "(You were interrupted here. Look at what is done already, and go on.)"]
    whole = "\n\n".join(parts)
    return whole if len(whole) <= MOST else "(The beginning was left out.)\n\n" + whole[-MOST:]


def of_run(run: Run) -> str:
    """All that was said in a run until now, as `text`, to be gone on with elsewhere; of much, what came last."""
    turns = _until(run, 1 + max(run.turns.values_list("number", flat=True), default=0))
    said: dict[int, list[str]] = {turn.pk: [] for turn in turns}
    found = Event.objects.filter(run__in={turn.run_id for turn in turns}, turn__in=said, kind__in=_KINDS).order_by("-turn", "-seq")
    for event in reversed(found[:_MOST_EVENTS]):
        if event.turn_id in said and (part := _shown(event)):
            said[event.turn_id].append(part)
    whole = "\n\n".join(part for turn in turns for part in (f"## User\n\n{turn.prompt}", *said[turn.pk]))
    return whole if len(whole) <= MOST else "(The beginning was left out.)\n\n" + whole[-MOST:]


def _events(turn: Turn) -> list[Event]:
    return list(Event.objects.filter(run=turn.run_id, turn=turn, kind__in=_KINDS).order_by("seq"))


def _shown(event: Event) -> str:
    data = event.data
    match event.kind:
        case EventKind.MESSAGE if data.get("text"):
            return f"## Agent\n\n{data['text']}"
        case EventKind.TOOL_CALL:
            return f"### Tool: {data.get('title') or data.get('tool') or ''}\n\n{_cut(data.get('input'))}"
        case EventKind.TOOL_RESULT if data.get("output"):
            return f"### Result\n\n{_cut(data['output'])}"
        case EventKind.ERROR:
            return f"### Error\n\n{data.get('text', '')}"
        case _:
            return ""


def _cut(value: object) -> str:
    said = value if isinstance(value, str) else "" if value is None else str(value)
    return said if len(said) <= _MOST_OF_ONE else said[:_MOST_OF_ONE] + " …"
