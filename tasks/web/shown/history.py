"""How the turns of a run stand to each other: which were set aside, and where the agent began in a new sandbox."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agents.registry import ADAPTERS
from tasks.models import Mode, Run, Turn, TurnKind

_READS = "The agent reads what was said before from a transcript, because its sandbox is new."
_FINDS = "Its sandbox is new: it begins with what was changed before."
_ANEW = "Its sandbox is new: it begins with the base commit, and knows nothing of what was said before."


@dataclass(frozen=True)
class Standing:
    """Of one turn. `is_aside`: the run went back to an earlier one. `begins` says how it began, where that was not in the sandbox
    of the turn before; `mode` is the name of its mode, where that is worth saying."""

    is_aside: bool = False
    begins: str = ""
    mode: str = ""


def standings(run: Run, turns: Iterable[Turn]) -> dict[int, Standing]:
    """The standing of each of a run's turns by id, given all in their order."""
    adapter = ADAPTERS.get(run.agent)
    reads = _READS if adapter is None or adapter.providers else _FINDS
    said = run.parent_turn is not None  # whether anything was said before
    sandbox = 0 if said else None  # a branch's first is new, too
    mode: str = Mode.CODE
    found: dict[int, tuple[int, Standing]] = {}  # id → number
    for turn in turns:
        if turn.kind == TurnKind.REVERT and turn.reverts_to is not None:
            for pk, (number, earlier) in found.items():
                if number > turn.reverts_to:
                    found[pk] = number, Standing(True, earlier.begins, earlier.mode)
            said = run.parent_turn is not None or any(not earlier.is_aside for _, earlier in found.values())
            found[turn.pk] = turn.number, Standing()
            continue
        is_new = None not in (turn.generation, sandbox) and turn.generation != sandbox
        tells_mode = turn.mode != Mode.CODE or mode != turn.mode
        begins = (reads if said else _ANEW) if is_new else ""
        found[turn.pk] = turn.number, Standing(False, begins, Mode(turn.mode).label if tells_mode else "")
        if turn.started_at is not None:
            said, sandbox, mode = True, turn.generation or sandbox, turn.mode
    return {pk: standing for pk, (_, standing) in found.items()}
