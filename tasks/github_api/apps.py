"""The GitHub App of this server: who it is at GitHub, what it may do, and the application by which people sign in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from django.conf import settings

from tasks.models import GitHubApp

# What working on a repository needs, and what a token for one gets.
REPOSITORY_PERMISSIONS: Final = {
    "contents": "write",
    "pull_requests": "write",
    "issues": "write",
    "workflows": "write",
    "checks": "read",
    "statuses": "read",
    "actions": "read",
    "metadata": "read",
}


@dataclass(frozen=True)
class Client:
    """The application by which people sign in: an OAuth app, or a GitHub App."""

    id: str
    secret: str = field(repr=False)


def current() -> GitHubApp | None:
    """The app at GITHUB_URL. One that was made at another address is none here: that host alone may see its secrets."""
    return GitHubApp.objects.filter(html_url__startswith=f"{settings.GITHUB_URL}/").first()


def has_client() -> bool:
    """Whether people can sign in with GitHub at all."""
    return _set_up() is not None or current() is not None


def client() -> Client | None:
    """That of GITHUB_CLIENT_ID, else the app's."""
    if (found := _set_up()) is not None:
        return found
    app = current()
    return Client(app.client_id, app.client_secret) if app else None


def client_of(client_id: str) -> Client | None:
    """The one with this id; None when it is not in use any more."""
    known = _set_up()
    if known is not None and known.id == client_id:
        return known
    app = current()
    return Client(app.client_id, app.client_secret) if app and app.client_id == client_id else None


def _set_up() -> Client | None:
    if settings.GITHUB_CLIENT_ID and settings.GITHUB_CLIENT_SECRET:
        return Client(settings.GITHUB_CLIENT_ID, settings.GITHUB_CLIENT_SECRET)
    return None


def webhook_secrets() -> list[str]:
    """Those that a delivery may be signed with."""
    app = current()
    return [secret for secret in (settings.GITHUB_WEBHOOK_SECRET, app.webhook_secret if app else "") if secret]


def bot_login() -> str:
    """The name under which the app speaks at GitHub; "" without an app."""
    app = current()
    return f"{app.slug}[bot]" if app else ""


# --- addresses at GitHub, for people to follow ----------------------------------------------------------------------------


def install_address(app: GitHubApp) -> str:
    return f"{app.html_url}/installations/new"


def delete_address(app: GitHubApp) -> str:
    """Where its owners delete it."""
    owner = f"/organizations/{app.owner}" if app.is_of_organization else ""
    return f"{settings.GITHUB_URL}{owner}/settings/apps/{app.slug}/advanced"
