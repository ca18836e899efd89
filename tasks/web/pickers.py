"""What the composer's pickers offer: repositories and branches, found as somebody types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import F, Max, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from tasks.errors import AppError
from tasks.git import mirrors
from tasks.git.sources import Source, parse_source, valid_branch
from tasks.models import Repo, User
from tasks.web.access import Request

MOST_REPOS = 20
MOST_BRANCHES = 50
_ADDRESS = re.compile(r"https?://|git@|ssh://|[/~]")
_HOST_AND_PATH = re.compile(r"[\w-]+(\.[\w-]+)*\.[a-z]{2,}/\S+")


def recent_repos(user: User) -> QuerySet[Repo]:
    """The user's repositories, those that were used last first."""
    used = Max("tasks__pk", filter=Q(tasks__is_trial=False))
    return Repo.objects.visible_to(user).annotate(used=used).order_by(F("used").desc(nulls_last=True), "-pk")


@dataclass(frozen=True)
class RepoOption:
    """The chosen one is always among them, hidden where it was not searched for: a form sends what it holds."""

    repo: Repo
    is_chosen: bool = False
    is_hidden: bool = False

    @classmethod
    def listed(cls, repos: Iterable[Repo], chosen: Repo | None) -> list[RepoOption]:
        found = [cls(repo, repo == chosen) for repo in repos]
        return found if chosen is None or any(option.is_chosen for option in found) else [cls(chosen, True, True), *found]


@login_required
@require_GET
def repos(request: Request) -> HttpResponse:
    """Repositories in whose name or address every word of `q` occurs; `repo` is the chosen one. An address offers itself."""
    asked, chosen = request.GET.get("q", "").replace("\0", "").strip(), request.GET.get("repo", "")
    mine = recent_repos(request.user)
    offer, refusal = _offer(asked, request.user)
    if offer is not None:
        found = mine.filter(source=offer.url)
    else:
        found = mine
        for word in asked.split()[:10]:
            found = found.filter(Q(name__icontains=word) | Q(source__icontains=word))
    present = mine.filter(pk=int(chosen)).first() if chosen.isdecimal() and len(chosen) <= 18 else None
    options = RepoOption.listed(found[:MOST_REPOS], present)
    is_known = offer is not None and any(option.repo.source == offer.url for option in options)
    is_none = bool(asked) and all(option.is_hidden for option in options)
    context = {"options": options, "q": asked, "offer": None if is_known else offer, "refusal": refusal, "is_none": is_none}
    return render(request, "tasks/composer.html#repos", context)


def _offer(asked: str, user: User) -> tuple[Source | None, str]:
    """The source that an address names; or why nothing can be read from there. Neither, when it is no address."""
    address = f"https://{asked}" if _HOST_AND_PATH.fullmatch(asked) else asked
    if not _ADDRESS.match(address):
        return None, ""
    try:
        source = parse_source(
            address, allow_local=user.is_operator, roots=settings.LOCAL_REPO_ROOTS, allow_private=settings.ALLOW_PRIVATE_HOSTS
        )
    except AppError as error:
        return None, error.message
    return source, ""


@login_required
@require_GET
def branches(request: Request) -> HttpResponse:
    """Branches of `repo` in whose name `q` occurs, the default branch first; a `source` is a repository that is not there yet."""
    asked, pk = request.GET.get("q", "").strip(), request.GET.get("repo", "")
    context: dict[str, Any] = {"q": asked, "names": [], "default": "", "note": "", "typed": "", "refusal": ""}
    if request.GET.get("source", "").strip() or not pk:
        context["note"] = "This repository is new. Type a branch's name, or leave it at the default branch."
    else:
        repo = get_object_or_404(Repo.objects.visible_to(request.user), pk=int(pk) if pk.isdecimal() and len(pk) <= 18 else 0)
        context |= _branches(repo, asked)
    if asked and asked not in context["names"]:
        try:
            context["typed"] = valid_branch(asked)
        except AppError as error:
            context["refusal"] = error.message
    return render(request, "tasks/composer.html#branches", context)


def _branches(repo: Repo, asked: str) -> dict[str, Any]:
    try:
        if repo.mirrored_at is None or not repo.mirror_path.exists():
            return {"note": "There is no copy of this repository yet. Type a branch's name, or leave it at the default branch."}
        names = mirrors.recent_branches(repo.mirror_path)
    except AppError as error:
        return {"note": f"{error.message} You can type a branch's name."}
    found = [name for name in names if asked.lower() in name.lower()]
    found.sort(key=lambda name: (name != asked, name != repo.default_branch))
    note = "" if found else "No branch of that name was there when the repository was last fetched."
    return {"names": found[:MOST_BRANCHES], "default": repo.default_branch, "note": note, "more": len(found) > MOST_BRANCHES}
