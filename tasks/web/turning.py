"""What one does with the turns of a run besides sending the next: approve a plan, interrupt, branch, go back."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from tasks import turns
from tasks.errors import AppError
from tasks.models import Event, Run, User
from tasks.web.access import Request, action, done
from tasks.web.forms import FollowUpForm, ScriptField, VerbForm
from tasks.web.plans import PlanForm
from tasks.web.run import find_run, page_with


class BranchForm(VerbForm):
    prompt = ScriptField(
        rows=5, placeholder="What is to be done from there?", error_messages={"required": "Say what is to be done: the prompt is empty."}
    )

    def submit(self, *, run: Run, after: int, by: User) -> Run | None:
        return self.attempt(lambda: turns.branch_run(run=run, by=by, after=after, prompt=self.cleaned_data["prompt"]))


@require_POST
@login_required
def approve(request: Request, pk: int) -> HttpResponse:
    found = find_run(request, pk)
    form = PlanForm(request.POST)
    if form.submit(run=found, by=request.user):
        return redirect(found)
    return page_with(request, found, FollowUpForm(run=found), form)


@action("run")
def send_now(request: Request, pk: int, number: int) -> HttpResponse:
    found = find_run(request, pk)
    turns.send_now(turn=get_object_or_404(found.turns, number=number), by=request.user)
    return done(request, found)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def branch(request: Request, pk: int, number: int) -> HttpResponse:
    """Asks for the prompt on GET, makes the branch on POST."""
    found = find_run(request, pk)
    turn = get_object_or_404(found.turns.only("number", "run_id"), number=number)
    form = BranchForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and (new := form.submit(run=found, after=number, by=request.user)):
        return redirect(new)
    context = {"run": found, "task": found.task, "turn": turn, "form": form, "back": _place(pk, number)}
    return render(request, "tasks/branch.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def back(request: Request, pk: int, number: int) -> HttpResponse:
    """The question on GET, the deed on POST. Number 0 is the beginning."""
    found = find_run(request, pk)
    error = ""
    if number:
        get_object_or_404(found.turns.only("pk"), number=number)
    if request.method == "POST":
        try:
            turns.revert_run(run=found, by=request.user, to=number)
            where = f"turn {number}" if number else "the beginning"
            messages.success(request, f"The run is back at {where}. Nothing was deleted: what came after it can still be read.")
            return redirect(found)
        except AppError as refused:
            error = refused.message
    context = {
        "question": f"Go back to the end of turn {number}?" if number else "Go back to before the first turn?",
        "consequence": _CONSEQUENCE,
        "verb": "Go back",
        "back": _place(pk, number),
        "error": error,
    }
    return render(request, "tasks/confirm.html", context, status=409 if error else 200)


_CONSEQUENCE = (
    "What was changed after it is taken out of the workspace, and the agent is no longer told what was said after it. "
    "Nothing is deleted: the later turns stay in the history, set aside, and a branch can still go on from them."
)


def _place(pk: int, number: int) -> str:
    return reverse("run-turn", args=[pk, number]) if number else reverse("run", args=[pk])


@login_required
@require_GET
def place(request: Request, pk: int, number: int) -> HttpResponse:
    """The place in the log where a turn ended, or how far it has come."""
    found = find_run(request, pk)
    turn = get_object_or_404(found.turns.only("pk"), number=number)
    last = Event.objects.filter(run=found, turn=turn).order_by("-seq").values_list("seq", flat=True).first()
    query = f"?before={last + 1}" if last else ""
    return redirect(f"{found.get_absolute_url()}{query}#turn-{number}")
