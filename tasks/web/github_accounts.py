"""GitHub in a user's settings: a pasted token, and the way out. The way to GitHub and back: github_sign_in.py."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse

from tasks import limits
from tasks.github import people
from tasks.web import errors, github_forms
from tasks.web.access import Request
from tasks.web.settings_page import answer, confirmed, section


@section
def github(request: Request) -> HttpResponse:
    """Save a token. Each try asks GitHub, so they are counted."""
    if wait := limits.KEYS.take(str(request.user.pk)):
        return errors.too_many(request, wait)
    form = github_forms.TokenForm(request.POST, auto_id="github_%s")
    if (account := form.submit(user=request.user)) is None:
        return answer(request, "github", form, github=github_forms.connection(request.user, form))
    return answer(request, "github", form, f"You are connected to GitHub as {account.login}.")


@login_required
def disconnect(request: Request) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = github_forms.connection(request.user)
    if found.account is None:
        raise Http404

    def let_go() -> str:
        people.disconnect(user=request.user)
        return "GitHub is disconnected."

    consequence = "The token is deleted here: no more pull requests and no private repositories by it. "
    consequence += "You go on signing in with GitHub." if found.is_only_in else "You cannot sign in with GitHub any more; other ways stay."
    return confirmed(request, "github", let_go, question="Disconnect GitHub?", consequence=consequence, verb="Disconnect")
