"""What the composer's pickers offer: repositories and branches, found as somebody types."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from tasks.errors import AppError
from tasks.git import mirrors
from tasks.git.sources import Source, valid_branch
from tasks.github_api import choosing
from tasks.github_api.answers import Repository
from tasks.github_api.client import MOST_BRANCHES as MOST_GITHUB_LISTS
from tasks.github_api.credentials import NoToken
from tasks.github_api.errors import RateLimited, TokenRefused, Unavailable
from tasks.github_api.places import name_of
from tasks.models import Repo, Task, User
from tasks.running import operations
from tasks.web.access import Request

logger = logging.getLogger(__name__)

MOST_REPOS = 20
MOST_KNOWN = 200  # listed to filter by
MOST_BRANCHES = 50
MOST_PAGES = 1000  # of GitHub's
OLD = timedelta(minutes=5)  # a mirror that was fetched before may lack branches
_ADDRESS = re.compile(r"https?://|git@|ssh://|[/~]")
_HOST_AND_PATH = re.compile(r"[\w-]+(\.[\w-]+)*\.[a-z]{2,}/\S+")


def recent_repos(user: User) -> QuerySet[Repo]:
    """The user's repositories, those that were used last first."""
    newest = Task.objects.filter(repo=OuterRef("pk"), is_trial=False).order_by("-pk").values("pk")[:1]  # by the index, not of all tasks
    return Repo.objects.visible_to(user).annotate(used=Subquery(newest)).order_by(F("used").desc(nulls_last=True), "-pk")


def known_repos(user: User) -> list[Repo]:
    """So many of them as can be listed, and of each what lists show."""
    return list(recent_repos(user).only("name", "source", "default_branch")[:MOST_KNOWN])


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


@dataclass(frozen=True)
class GitHubOption:
    """A repository at GitHub that is not here yet; `source` is the address it is added by."""

    name: str
    source: str
    default_branch: str
    is_private: bool

    @classmethod
    def of(cls, found: Repository) -> GitHubOption:
        source = f"{settings.GITHUB_URL}/{found.full_name}"  # not what GitHub says: an address of ours, on the one host that is GitHub
        return cls(found.full_name, source, found.default_branch, found.is_private)


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
    return render(request, "tasks/composer.html#repos", context | {"is_searched": True, "is_address": bool(offer or refusal)})


@login_required
@require_GET
def github_repos(request: Request) -> HttpResponse:
    """Repositories at GitHub that the user can push to and that are not here yet, by the words of `q`, from `page` on; with `add`
    for the page of repositories, else for the composer."""
    asked, page = request.GET.get("q", "").replace("\0", "")[:200].strip(), request.GET.get("page", "")
    number = min(int(page), MOST_PAGES) if page.isdecimal() and 0 < len(page) < 9 else 1
    context: dict[str, Any] = {"q": asked, "found": [], "is_first": number <= 1, "adds": "add" in request.GET}
    if not _ADDRESS.match(asked):
        context |= _found_at_github(request.user, asked, max(number, 1))
    return render(request, f"tasks/github_found.html{'' if context['is_first'] else '#more'}", context)


def _found_at_github(user: User, asked: str, page: int) -> dict[str, Any]:
    try:
        found = choosing.repos(user, asked, page)
    except AppError as error:
        return {"trouble": error.message, "is_to_connect": isinstance(error, (NoToken, TokenRefused))}
    here = Repo.objects.visible_to(user).filter(source__istartswith=settings.GITHUB_URL).values_list("source", flat=True)
    known = {name_of(source).lower() for source in here}
    new = [GitHubOption.of(one) for one in found.found if one.full_name.lower() not in known]
    return {"found": new, "next_page": found.next_page}


@login_required
@require_GET
def access(request: Request) -> HttpResponse:
    """What keeps the user from pushing to `repo`, or to the one at `source`: said before there is anything to push."""
    repository = name_of(_source(request))
    said = ""
    if repository:
        try:
            if not choosing.can_push(request.user, repository):
                said = f"You may read {repository}, not push to it: a pull request will need write access, or a fork of your own."
        except (RateLimited, Unavailable) as error:
            logger.info("Whether %s may push to %s is not known: %s", request.user, repository, error)  # it is asked again before a push
        except AppError as error:
            said = f"There can be no pull request yet. {error.message}"
    return render(request, "tasks/composer.html#access", {"said": said})


def _source(request: Request) -> str:
    """The address of the repository that a form stands at; "" for none of one's own."""
    if source := request.GET.get("source", "").replace("\0", "").strip():
        offer, _ = _offer(source, request.user)
        return offer.url if offer else ""
    pk = request.GET.get("repo", "")
    mine = Repo.objects.visible_to(request.user).filter(pk=int(pk) if pk.isdecimal() and len(pk) <= 18 else 0)
    return mine.values_list("source", flat=True).first() or ""


def _offer(asked: str, user: User) -> tuple[Source | None, str]:
    """The source that an address names; or why nothing can be read from there. Neither, when it is no address."""
    address = f"https://{asked}" if _HOST_AND_PATH.fullmatch(asked) else asked
    if not _ADDRESS.match(address):
        return None, ""
    try:
        source = operations.source_for(user, address)
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
        context |= _branches_of_new(request.user, name_of(_source(request)), asked)
    else:
        repo = get_object_or_404(Repo.objects.visible_to(request.user), pk=int(pk) if pk.isdecimal() and len(pk) <= 18 else 0)
        context |= _branches(repo, request.user, asked)
    if asked and asked not in context["names"]:
        try:
            context["typed"] = valid_branch(asked)
        except AppError as error:
            context["refusal"] = error.message
    return render(request, "tasks/composer.html#branches", context)


def _branches_of_new(user: User, repository: str, asked: str) -> dict[str, Any]:
    """Those of a repository that is not here yet: GitHub knows them, if it is there."""
    if repository:
        try:
            return _listed(choosing.branches(user, repository, asked), asked, "", "No branch there has that in its name.")
        except AppError as error:
            return {"note": f"{error.message} You can type a branch's name."}
    return {"note": "This repository is new. Type a branch's name, or leave it at the default branch."}


def _branches(repo: Repo, user: User, asked: str) -> dict[str, Any]:
    """Those of the mirror, the newest first; where it is old, those that GitHub has now."""
    note = "No branch of that name was there when the repository was last fetched."
    try:
        fetched_at = repo.mirrored_at if repo.mirror_path.exists() else None
        names = mirrors.recent_branches(repo.mirror_path) if fetched_at else []
        is_known = fetched_at is not None
        if (repository := name_of(repo.source)) and (fetched_at is None or fetched_at < timezone.now() - OLD):
            try:
                there = choosing.branches(user, repository, asked)
            except AppError as error:
                note = f"{error.message} You can type a branch's name."
            else:
                note, names = "No branch there has that in its name.", _by_age(there, names)
                is_known = True
    except AppError as error:
        return {"note": f"{error.message} You can type a branch's name."}
    if not is_known:
        return {"note": "There is no copy of this repository yet. Type a branch's name, or leave it at the default branch."}
    return _listed(names, asked, repo.default_branch, note)


def _by_age(there: Sequence[str], mirrored: Sequence[str]) -> list[str]:
    """What GitHub has: what the mirror lacks first, since that is new; the rest as in the mirror. GitHub lists so many and no more,
    so that what it leaves out may be there all the same."""
    place = {name: number for number, name in enumerate(mirrored)}
    left_out = [name for name in mirrored if name not in set(there)] if len(there) >= MOST_GITHUB_LISTS else []
    return sorted([*there, *left_out], key=lambda name: place.get(name, -1))


def _listed(names: Iterable[str], asked: str, default: str, note: str) -> dict[str, Any]:
    found = [name for name in names if asked.lower() in name.lower()]
    found.sort(key=lambda name: (name != asked, name != default))
    return {"names": found[:MOST_BRANCHES], "default": default, "note": "" if found else note, "more": len(found) > MOST_BRANCHES}
