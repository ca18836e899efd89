"""A GitHub App at the GitHub of the tests, known here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from pytest_django import Settings

from tasks.github import registration
from tasks.models import GitHubApp
from tests.github.apps import App
from tests.github.server import GitHubServer

ADDRESS = "https://asynccode.example.org"


@contextmanager
def clean(server: GitHubServer, settings: Settings) -> Iterator[GitHubServer]:
    """GitHub with nobody in it and nothing remembered of it, where this site has no token and no OAuth app."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    settings.GITHUB_URL, settings.GITHUB_API_URL = server.url, server.api_url
    settings.GITHUB_CLIENT_ID = settings.GITHUB_CLIENT_SECRET = settings.GITHUB_TOKEN = settings.GITHUB_WEBHOOK_SECRET = ""
    settings.GITHUB_ALLOWED_USERS, settings.GITHUB_ALLOWED_ORGS = frozenset(), frozenset()
    server.forget()
    yield server
    server.world.people.clear()
    server.world.tokens.clear()
    server.apps.all.clear()


def known(app: App, server: GitHubServer) -> GitHubApp:
    """The row of an app, as its manifest flow would have made it."""
    row = GitHubApp(
        app_id=app.id,
        slug=app.slug,
        name=app.manifest["name"],
        html_url=f"{server.url}/github-apps/{app.slug}",
        owner=app.owner,
        client_id=app.client_id,
    )
    row.client_secret, row.private_key, row.webhook_secret = app.client_secret, app.pem, app.webhook_secret or ""
    row.save(force_insert=True)
    return row


def manifest(address: str = ADDRESS) -> dict[str, Any]:
    return registration.manifest(address)
