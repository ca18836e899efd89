"""What became of a turn that is over, and what follows from it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Max
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from agents.adapters import errors
from agents.adapters.base import Ending, ErrorClass, Outcome
from agents.packages import PACKAGES
from agents.registry import ADAPTERS
from sandboxes.base import FetchedPatch
from tasks.models import EndReason, Mode, Run, RunStatus, Sandbox, Stage, Turn, TurnKind
from tasks.running import model_access, patches, templates

MOST_RETRIES = 2
NOT_FOUND = 127  # a shell's exit code for a program that is not there
_PATCH_LOST = "The sandbox stopped before the turn's patch was fetched. The last checkpoint is kept; retry starts a new attempt."
TRIED_AGAIN = (ErrorClass.RATE_LIMIT, ErrorClass.OVERLOADED)  # what goes away by waiting


def judge(turn: Turn, said: dict[str, Any], *, has_patch: bool) -> tuple[RunStatus, str, Outcome]:
    """What became of a turn: its status, the stage that it ended in, and what to say. `failed` is the agent's doing, `errored` ours."""
    step, reason = said.get("step"), said["reason"]
    if reason == "shutdown":
        return RunStatus.INTERRUPTED, Stage.AGENT, Outcome(False, "", "The service was stopped. What was done until then is kept.")
    used_up = Outcome(False, ErrorClass.CREDIT, turn.end_text)
    if turn.end_reason == EndReason.BUDGET and reason in ("stop", "error"):
        return RunStatus.FAILED, step or Stage.AGENT, used_up
    if turn.end_reason == EndReason.FOLLOW_UP and reason in ("stop", "error"):
        return RunStatus.INTERRUPTED, step or Stage.AGENT, Outcome(False, "", "Stopped to go on with the next message.")
    if turn.end_reason == EndReason.LIFETIME and reason in ("stop", "error"):
        return RunStatus.INTERRUPTED, step or Stage.AGENT, Outcome(False, "", turn.end_text)
    if turn.run.stop_requested_at and reason in ("stop", "error"):
        return RunStatus.CANCELED, step or Stage.AGENT, Outcome(False)
    if said.get("error"):
        stage = step if step in Stage.values else Stage.COLLECT
        return RunStatus.ERRORED, stage, Outcome(False, "", _no_program(turn.run, said["error"]) or said["error"])
    if step == "setup":
        what = f"exit code {said['code']}" if reason == "exit" else f"the limit on {reason}"
        return RunStatus.ERRORED, Stage.SETUP, Outcome(False, "", f"The setup script ended with {what}. Its output is in the log.")
    if step == "patch":
        return RunStatus.ERRORED, Stage.CHECKOUT, Outcome(False, "", "The changes so far could not be put back. The log says why.")
    if step == "checkout":
        return RunStatus.ERRORED, Stage.CHECKOUT, Outcome(False, "", "The checkout took too long.")
    ending = Ending(reason=reason, code=said.get("code"), signal=said.get("signal"))
    parse_state = Sandbox.objects.get(run=turn.run_id, generation=turn.run.generation).parse_state.get("adapter", {})
    if ending.code == NOT_FOUND and (no_program := _no_program(turn.run, str(parse_state.get("stderr", "")))):
        return RunStatus.ERRORED, Stage.AGENT, Outcome(False, "", no_program)
    adapter = ADAPTERS[turn.run.agent]
    outcome = adapter.outcome(ending, parse_state)
    if outcome.error_class == ErrorClass.HUNG and (refused := model_access.last_refusal(turn)):
        # Some agents ask again and again, and never say that they were refused.
        outcome = errors.outcome(
            refused, adapter.label, f"{adapter.label} was stopped: it said nothing but asked again when it was refused."
        )
    if outcome.is_ok and not has_patch:
        return RunStatus.INTERRUPTED, Stage.COLLECT, Outcome(False, "", _PATCH_LOST)
    if not outcome.is_ok:  # an agent that was refused for its budget may leave before it is stopped
        return RunStatus.FAILED, Stage.AGENT, used_up if turn.end_reason == EndReason.BUDGET else outcome
    return (RunStatus.WAITING if turn.mode == Mode.PLAN else RunStatus.SUCCEEDED), "", outcome


def _no_program(run: Run, said: str) -> str:
    """What to say when the template has not what the agent needs; "" when `said` says something else."""
    if not templates.says_no_program(run, said):
        return ""
    sandbox = Sandbox.objects.get(run=run, generation=run.generation)
    # What was prepared has a name of its own, which says nothing to anybody.
    made_from = sandbox.prepared.template if sandbox.prepared else sandbox.record.get("template")
    name = made_from or templates.for_run(run)
    return f"The template {name} has no {PACKAGES[ADAPTERS[run.agent].package].program}. Build one with: {templates.BUILD}"


def disobeyed(turn: Turn, fetched: FetchedPatch) -> str:
    """What to say of a turn that was to change nothing and did; "" when it has obeyed."""
    before = patches.after(turn.run, turn.number - 1)
    if fetched.content == (bytes(before.content) if before else b""):
        return ""
    kept = {(file["path"], file["additions"], file["deletions"]) for file in before.files} if before else set()
    now = [file for file in patches.changed_files(fetched.content) if (file.path, file.additions, file.deletions) not in kept]
    names = ", ".join(file.path for file in now[:3]) + (" …" if len(now) > 3 else "")
    return (
        f"In this mode nothing may be changed, but the agent changed files ({names or 'back to the base'}). Its changes were thrown away."
    )


def is_tried_again(turn: Turn, outcome: Outcome) -> bool:
    is_ours = bool(turn.end_reason or turn.run.stop_requested_at)
    return outcome.error_class in TRIED_AGAIN and turn.retries < MOST_RETRIES and not is_ours


def try_again(turn: Turn) -> CombinedExpression:
    """Queue the turn's prompt again, in the conversation as far as it got; gives from when on it may start."""
    prompt = "Go on where you were cut off." if turn.conversation else turn.prompt
    number = Turn.objects.filter(run=turn.run).aggregate(Max("number"))["number__max"] + 1
    again = Turn.objects.create(
        run=turn.run,
        number=number,
        kind=TurnKind.RETRY,
        mode=turn.mode,
        prompt=prompt,
        author=turn.author,
        retries=turn.retries + 1,
    )
    again.attachments.set(turn.attachments.all())
    return Now() + timedelta(seconds=settings.AGENT_RETRY_S * 4**turn.retries)
