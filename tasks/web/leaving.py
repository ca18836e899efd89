"""Deleting one's own account: a page that says what goes with it, and takes the username, typed."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from tasks import leaving
from tasks.models import FINAL, Repo, Run, Task, User
from tasks.web.access import Request
from tasks.web.forms import VerbForm


class LeaveForm(VerbForm):
    name = forms.CharField(
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
        error_messages={"required": "Type your username."},
    )

    def submit(self, *, user: User) -> bool:
        self.attempt(lambda: leaving.delete_account(user=user, name=self.cleaned_data["name"]))
        return not self.errors


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def leave(request: Request) -> HttpResponse:
    form = LeaveForm(request.POST if request.method == "POST" else None, auto_id="leave_%s")
    if request.method == "POST" and form.submit(user=request.user):
        logout(request)
        messages.success(request, "Your account is closed. What was yours is being deleted.")
        return redirect("sign-in")
    tasks = Task.objects.filter(owner=request.user)
    context = {
        "form": form,
        "tasks": tasks.filter(is_trial=False).count(),
        "repos": Repo.objects.filter(owner=request.user, removed_at=None).count(),
        "at_work": Run.objects.filter(task__in=tasks).exclude(status__in=FINAL).count(),
    }
    return render(request, "tasks/leave.html", context, status=422 if form.errors else 200)
