"""A run's plan: shown, edited, approved."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.safestring import SafeString

from tasks import turns
from tasks.models import Mode, Run, RunStatus, Turn, User
from tasks.web.forms import ScriptField, VerbForm
from tasks.web.shown import markdown_html

MOST_SHOWN = 200_000  # characters


class PlanForm(VerbForm):
    plan = ScriptField(rows=12, required=False, label="The plan, as the agent gets it")
    fields_of_errors = {"prompt": "plan"}

    def submit(self, *, run: Run, by: User) -> Turn | None:
        return self.attempt(lambda: turns.approve_plan(run=run, by=by, plan=self.cleaned_data["plan"]))


@dataclass(frozen=True)
class Plan:
    """The newest one of a run. `can_approve`: the run waits for that, or what was sent was refused and must not get lost."""

    turn: Turn
    form: PlanForm
    can_approve: bool

    @property
    def html(self) -> SafeString:
        return markdown_html(self.turn.answer[:MOST_SHOWN])

    @property
    def version(self) -> str:
        """Changes with what is shown."""
        return f"plan-{self.turn.pk}-{self.can_approve}"


def plan_of(run: Run, refused: PlanForm | None = None) -> Plan | None:
    """The plan of the newest turn that made one; `refused` is a form with it that could not be taken."""
    made = [turn.pk for turn in run.turns.all() if (turn.mode, turn.status, turn.joined_id) == (Mode.PLAN, RunStatus.SUCCEEDED, None)]
    turn = Turn.objects.filter(pk=made[-1]).only("number", "answer", "run_id").first() if made else None
    is_waiting = run.status == RunStatus.WAITING
    if turn is None and refused is not None:  # whatever became of it, what was typed is shown
        turn = Turn(run=run, number=0)
    if turn is None or not (turn.answer or is_waiting or refused):
        return None
    return Plan(turn, refused or PlanForm(initial={"plan": turn.answer}), is_waiting or refused is not None)
