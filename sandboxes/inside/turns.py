"""One turn from its first record to its last: checkout, steps, checkpoints, the patch, the end."""

from __future__ import annotations

import os
import sys
import time

from . import processes
from .patches import PatchError
from .signs import Signs
from .steps import Outcome, Output, Step
from .transfer import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Optional

    from .loop import Future, Timer
    from .patches import Making, Patch
    from .supervisor import Supervisor

CHECKOUT = "checkout"
_FINAL_S = 900.0
_CHECKPOINT_S = 300.0
_LINGER_S = 15.0
_CHECKPOINT_SHARE = 10  # making checkpoints may take a tenth of the time


class Turn:
    """Runs a checked spec. `over` is done when the `end` record is written."""

    def __init__(self, house: Supervisor, spec: Mapping[str, Any]) -> None:
        self._house, self._loop, self._journal, self._spec = house, house.loop, house.journal, spec
        self.number: int = spec["turn"]
        self.step: Optional[Step] = None
        self.ending: Optional[str] = None  # stop or shutdown, once asked for
        self._output = Output(house.journal, self.number)
        self._making: Optional[Making] = None
        self._made: Future = self._loop.future()
        self._last_sha256 = house.last_sha256
        self._tick: Optional[Timer] = None
        self.over: Future = self._loop.task(self._run())

    def stop(self, reason: str) -> None:
        """End the turn: no further step, the running one is terminated. Once it makes its patch, that is the end anyway."""
        self.ending = self.ending or reason
        if self.step is not None:
            self.step.end(reason)

    @property
    def patch(self) -> Optional[Patch]:
        """The best there is: the final one, else the newest checkpoint."""
        return self._house.patches.get(self.number, "final") or self._house.patches.get(self.number, "checkpoint")

    async def checkpoint(self, is_asked: bool = False) -> None:
        """Make a checkpoint, and keep and record it when something changed. When it `is_asked` for, there is one to
        fetch afterwards in any case. PatchError when it failed, RequestError when there is nothing to make it of."""
        while self._making is not None:
            await self._made
        if self.step is None or self.step.is_over or self.step.name == CHECKOUT:
            raise RequestError("missing", "No step is running whose work a checkpoint could hold.")
        self._made = self._loop.future()
        self._making = self._house.patches.start(self._spec, "checkpoint", _CHECKPOINT_S)
        try:
            patch = await self._making.patch()
        finally:
            self._making = None
            self._made.set()
        is_there = self._house.patches.get(self.number, "checkpoint") is not None
        if patch.sha256 == self._last_sha256 and (is_there or not is_asked):
            os.close(patch.fd)
        else:
            self._keep("checkpoint", patch)

    # Inside

    async def _run(self) -> None:
        started = time.monotonic()
        name: Optional[str] = None
        try:
            name, outcome = await self._run_steps()
        except Exception as error:  # a turn that has begun gets its end record, whatever happens
            sys.excepthook(type(error), error, error.__traceback__)
            outcome = Outcome("error", error=f"The supervisor failed: {processes.describe(error)}.")
        has_patch, failure = await self._make_last_patch()
        self._journal.append(
            "end", turn=self.number, step=name, reason="error" if failure else outcome.reason, code=outcome.code, signal=outcome.signal,
            seconds=round(time.monotonic() - started, 3), has_patch=has_patch, error=failure or outcome.error,
        )  # fmt: skip
        self._house.runs.open()

    async def _run_steps(self) -> tuple[str, Outcome]:
        """The name and outcome of the last step that ran."""
        if not await self._house.clear():
            return CHECKOUT, Outcome("error", error="Processes of an earlier command are still running and could not be killed.")
        name, outcome = CHECKOUT, Outcome("exit", code=0)
        if self._house.needs_checkout():
            outcome = await self._check_out()
            if not outcome.is_success:
                return CHECKOUT, outcome
            self._house.has_workspace = True
            self._house.patches.trust(self._spec)
        for step in self._spec["steps"]:
            if self.ending is not None:
                return name, Outcome(self.ending)
            name, outcome = step["name"], await self._run_step(step)
            if not outcome.is_success:
                break
        return name, outcome

    async def _check_out(self) -> Outcome:
        outcome = await self._ended(CHECKOUT, self._house.checkout_main(self._spec["checkout"]), self._spec["checkout"]["total_s"])
        if outcome.reason == "exit" and outcome.code != 0:
            return Outcome("error", code=outcome.code, signum=outcome.signal, error="The checkout was killed before it was done.")
        return outcome

    async def _run_step(self, step: Mapping[str, Any]) -> Outcome:
        self._house.runs.open()
        self._tick = self._loop.later(self._spec["checkpoint_s"], self._ticked)
        try:
            return await self._ended(
                step["name"],
                self._main(step, {**self._house.plain_env(), **step["env"]}),
                step["total_s"],
                silence_s=step["silence_s"],
                has_input=step["stdin"],
                lines=step["input"],
                signs=Signs(step["ends_on"], step["goes_on"], step["linger_s"]) if step["ends_on"] else None,
            )
        finally:
            self._tick.cancel()

    def _main(self, step: Mapping[str, Any], env: Mapping[str, str]) -> Callable[[], object]:
        """What the step's process does."""
        argv, cwd, files, limits = step["argv"], step["cwd"], step["files"], self._house.limits
        if step["acp"] is None:
            return lambda: processes.become(argv, env, cwd, limits, files)
        from .acp import drive

        workspace, grace_s = self._house.options.workspace, self._spec["term_grace_s"]
        return lambda: drive(step["acp"], argv=argv, env=env, cwd=cwd, files=files, limits=limits, workspace=workspace, grace_s=grace_s)

    async def _ended(self, name: str, main: Callable[[], object], total_s: float, **more: Any) -> Outcome:
        self.step = Step(
            self._loop, self._output, name, main, self._house.clear, total_s=total_s, grace_s=self._spec["term_grace_s"], **more
        )  # fmt: skip
        if name != CHECKOUT:
            self._house.watchdog.guard(self.step)
        if self.ending is not None:
            self.step.end(self.ending)
        try:
            outcome: Outcome = await self.step.ended
            return outcome
        finally:
            self.step = None

    def _ticked(self) -> None:
        self._loop.task(self._make_regular_checkpoint())

    async def _make_regular_checkpoint(self) -> None:
        step, started = self.step, time.monotonic()
        try:
            await self.checkpoint()
        except RequestError:
            return
        except PatchError as failure:
            if step is self.step and step is not None and not step.is_over:  # else it was killed with the step
                print(f"checkpoint of turn {self.number}: {failure}", file=sys.stderr, flush=True)  # noqa: T201
        if step is self.step:
            took = time.monotonic() - started
            self._tick = self._loop.later(max(self._spec["checkpoint_s"], _CHECKPOINT_SHARE * took), self._ticked)

    async def _make_last_patch(self) -> tuple[bool, Optional[str]]:
        """Whether there is one, and what went wrong. Everything else is dead."""
        if not self._house.has_workspace:
            return False, None
        kind = "checkpoint" if self.ending == "shutdown" else "final"
        try:
            self._keep(kind, await self._house.patches.start(self._spec, "final", _FINAL_S).patch())
        except Exception as failure:
            return False, f"The patch could not be made: {processes.describe(failure)}"
        return True, None

    def _keep(self, kind: str, patch: Patch) -> None:
        self._house.patches.keep(self.number, kind, patch)
        self._last_sha256 = self._house.last_sha256 = patch.sha256
        self._journal.append("patch", turn=self.number, patch=kind, bytes=patch.size, **patch.told)


def checked(spec: object) -> Mapping[str, Any]:
    """The spec, when it has the shape of a TurnSpec as JSON; RequestError otherwise."""
    turn = _fields(spec, "The turn", {
        "turn": int, "generation": int, "checkout": dict, "steps": list, "max_file_bytes": int, "max_patch_bytes": int,
        "checkpoint_s": float, "term_grace_s": float,
    })  # fmt: skip
    _fields(turn["checkout"], "The checkout", {"base": str, "branch": str, "remote": str, "total_s": float})
    for step in turn["steps"]:
        _fields(step, "A step", {"name": str, "argv": list, "env": dict, "files": dict, "cwd": str, "total_s": float})
        if step["name"] == CHECKOUT or not 0 < len(step["name"]) <= 200:
            raise RequestError("bad", f"A step cannot have the name {step['name'][:200]!r}.")
        if not is_command(step["argv"]):
            raise RequestError("bad", f"The step {step['name']!r} has no command.")
        if not is_text(step["env"]) or not is_text(step["files"]):
            raise RequestError("bad", f"The step {step['name']!r} has an environment or files that are not text.")
        silence_s = step.setdefault("silence_s", None)
        if silence_s is not None and not isinstance(silence_s, (int, float)):
            raise RequestError("bad", f"The step {step['name']!r} has a silence clock that is not a number.")
        _check_talk(step)
    return turn


def _check_talk(step: dict[str, Any]) -> None:
    """What goes into a step, and which of its lines say that it is done."""
    for name, default in (("stdin", False), ("input", []), ("ends_on", []), ("goes_on", []), ("linger_s", _LINGER_S), ("acp", None)):
        step.setdefault(name, default)
    lines, who = step["input"], f"The step {step['name']!r}"
    if not isinstance(step["stdin"], bool):
        raise RequestError("bad", f"{who} does not say properly whether it has a standard input.")
    if not isinstance(lines, list) or not all(isinstance(line, str) and "\n" not in line for line in lines):
        raise RequestError("bad", f"{who} has input that is not lines of text.")
    if lines and not step["stdin"]:
        raise RequestError("bad", f"{who} has input but no standard input.")
    for patterns in (step["ends_on"], step["goes_on"]):
        if not isinstance(patterns, list) or not all(isinstance(pattern, dict) and pattern for pattern in patterns):
            raise RequestError("bad", f"{who} has a sign of its end that is not an object with members.")
    linger_s = step["linger_s"]
    if not isinstance(linger_s, (int, float)) or isinstance(linger_s, bool) or not linger_s > 0:
        raise RequestError("bad", f"{who} does not say properly how long it may linger.")
    if step["acp"] is not None:
        from . import acp

        wrong = "It has a standard input of its own." if step["stdin"] else acp.check(step["acp"])
        if wrong:
            raise RequestError("bad", f"{who} cannot speak the Agent Client Protocol. {wrong}")


def is_command(argv: object) -> bool:
    return isinstance(argv, list) and bool(argv) and all(isinstance(word, str) and "\0" not in word for word in argv)


def is_text(mapping: object) -> bool:
    return isinstance(mapping, dict) and all(isinstance(each, str) for each in mapping.values())


def _fields(given: object, what: str, wanted: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise RequestError("bad", f"{what} is not an object.")
    for name, kind in wanted.items():
        value = given.get(name)
        kinds = (int, float) if kind is float else (kind,)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise RequestError("bad", f"{what} has no proper {name!r}.")
    return given
