"""Which repositories of ours are on GitHub, and under which name."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

from tasks.errors import AppError
from tasks.models import Repo


class NotOnGitHub(AppError):
    """The repository is somewhere else, where there are no pull requests for us."""

    code = "not_on_github"


def is_on_github(repo: Repo) -> bool:
    return bool(name_of(repo.source))


def repository_of(repo: Repo) -> str:
    """`owner/name`. NotOnGitHub when the repository's source is not on GITHUB_URL."""
    if name := name_of(repo.source):
        return name
    where = "a folder on this machine" if repo.is_local else f"on {urlsplit(repo.source).hostname}"
    host = urlsplit(settings.GITHUB_URL).netloc
    raise NotOnGitHub(f"{repo.name} is {where}, not on {host}: download the patch and apply it there.")


def name_of(source: str) -> str:
    """`owner/name` of the repository at this address; "" when it is not on GITHUB_URL."""
    if not source.lower().startswith(f"{settings.GITHUB_URL.lower()}/"):
        return ""
    name = source[len(settings.GITHUB_URL) + 1 :].strip("/").removesuffix(".git")
    return name if name.count("/") == 1 else ""
