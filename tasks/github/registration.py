"""Making the GitHub App of this server by a manifest: GitHub shows an operator what the app is to be, makes it once they agree, and
gives its secrets for a code that the operator's browser brings back. And forgetting it."""

from __future__ import annotations

import ipaddress
import logging
import re
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables

from tasks import audit
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.github_api import apps
from tasks.github_api.answers import line, link, mapping, number, text
from tasks.github_api.connection import Connection
from tasks.github_api.errors import NotFoundOnGitHub, Refused, Unavailable
from tasks.models import AuditKind, GitHubApp, User

logger = logging.getLogger(__name__)

PERMISSIONS: Final = apps.REPOSITORY_PERMISSIONS | {"members": "read"}
EVENTS: Final = (
    "check_run",
    "check_suite",
    "issue_comment",
    "issues",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "push",
    "repository",
    "status",
)
"""Those that are chosen; GitHub sends all apps what happens to their installations and authorizations."""

MOST_NAME = 34  # characters, as GitHub allows
_ORGANIZATION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?")
_CODE = re.compile(r"[A-Za-z0-9_-]{1,200}")


def check_may_begin(by: User) -> None:
    if not by.is_operator:
        raise NotAllowed("Only operators make the GitHub App of this server.")
    if (app := apps.current()) is not None:
        raise Conflict(f"This server has the GitHub App {app.name} already. Forget it first.")


def address_of_form(organization: str) -> str:
    """Where the manifest goes to: the page for apps of the operator's own account, or of an organization."""
    if not organization:
        return f"{settings.GITHUB_URL}/settings/apps/new"
    if not _ORGANIZATION.fullmatch(organization):
        raise InvalidInput("This is no name of an organization at GitHub. Copy it from its address there.", field="organization")
    return f"{settings.GITHUB_URL}/organizations/{quote(organization)}/settings/apps/new"


def manifest(address: str) -> dict[str, Any]:
    """What the app is to be, for a server at this address.

    Without webhooks where GitHub cannot reach it: it refuses such a hook even when it is to be off.
    """
    found: dict[str, Any] = {
        "name": f"asynccode {urlsplit(address).hostname}"[:MOST_NAME],
        "url": address,
        "description": "Coding agents whose work becomes pull requests.",
        "public": False,
        "redirect_url": address + reverse("github-app-made"),
        "callback_urls": [address + reverse("github_callback")],
        "setup_url": address + reverse("settings"),
        "request_oauth_on_install": False,
        "default_permissions": PERMISSIONS,
    }
    if is_reachable(address):
        found |= {"hook_attributes": {"url": address + reverse("github-webhook"), "active": True}, "default_events": list(EVENTS)}
    return found


def is_reachable(address: str) -> bool:
    """Whether GitHub may be able to send webhooks there. An Enterprise Server can be in the same private network; github.com is not."""
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return False
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return "." in host or settings.GITHUB_URL != "https://github.com"
    return not ip.is_loopback and (ip.is_global or settings.GITHUB_URL != "https://github.com")


@sensitive_variables("code", "said", "app")
def register(*, by: User, code: str) -> GitHubApp:
    """Fetch the app that GitHub has made for this code, once, and keep it."""
    check_may_begin(by)
    if not _CODE.fullmatch(code):
        raise InvalidInput("GitHub did not send the code of an app. Begin again.")
    try:
        with closing(Connection("")) as connection:
            said = mapping(connection.ask("POST", f"/app-manifests/{code}/conversions").value)
    except (NotFoundOnGitHub, Refused):
        raise InvalidInput("GitHub does not take this code: it was used before, or is older than an hour. Begin again.") from None
    app = _read(said)
    app.made_by = by
    GitHubApp.objects.exclude(html_url__startswith=f"{settings.GITHUB_URL}/").delete()  # of another GITHUB_URL, of no use here
    try:
        with transaction.atomic():
            app.save(force_insert=True)
            audit.record(AuditKind.GITHUB_APP_MADE, by=by, subject=app, app=app.html_url, owner=app.owner)
    except IntegrityError:
        raise Conflict("Another operator has just made a GitHub App. Delete yours at GitHub.") from None
    logger.info("%s has made the GitHub App %s.", by, app.html_url)
    return app


@sensitive_variables()
def _read(said: dict[str, Any]) -> GitHubApp:
    owner = mapping(said.get("owner"))
    app = GitHubApp(
        app_id=number(said.get("id")),
        slug=line(said.get("slug"))[:100],
        name=" ".join(line(said.get("name")).split())[:100],
        html_url=link(said.get("html_url")),
        owner=line(owner.get("login"))[:100],
        is_of_organization=owner.get("type") == "Organization",
        client_id=line(said.get("client_id")),
    )
    app.client_secret, app.private_key = text(said.get("client_secret")), text(said.get("pem"))
    app.webhook_secret = text(said.get("webhook_secret"))
    needed = (app.app_id, app.slug, app.name, app.client_id, said.get("client_secret"), said.get("pem"))
    is_ours = app.html_url.startswith(f"{settings.GITHUB_URL}/") and len(app.html_url) <= 300 and len(app.client_id) <= 100
    if not all(needed) or not is_ours:
        raise Unavailable("GitHub says nothing of the new app that makes sense. Delete it there, and begin again.")
    return app


def forget(*, by: User) -> bool:
    """Forget the app and its secrets here; at GitHub it stays. False: there is none."""
    if not by.is_operator:
        raise NotAllowed("Only operators forget the GitHub App of this server.")
    with transaction.atomic():
        app = GitHubApp.objects.select_for_update().first()
        if app is None:
            return False
        audit.record(AuditKind.GITHUB_APP_FORGOTTEN, by=by, subject=app, app=app.html_url, owner=app.owner)
        app.delete()
    return True
