"""Signing in with GitHub in a real browser: its Content-Security-Policy lets the form lead there, and the cookie comes back."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from tests.github.server import GitHubServer, github_server

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def github(live_server: LiveServer, settings: Settings) -> Iterator[GitHubServer]:
    with github_server() as server:
        settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
        settings.GITHUB_URL, settings.GITHUB_API_URL = server.url, server.api_url
        settings.GITHUB_CLIENT_ID, settings.GITHUB_CLIENT_SECRET = "client", "app-secret"
        settings.GITHUB_ALLOWED_USERS, settings.GITHUB_ALLOWED_ORGS = frozenset({"octo"}), frozenset()
        server.add_oauth_app("client", "app-secret", [f"{live_server.url}/accounts/github/login/callback/"])
        yield server


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page on which the policy forbids nothing; there are no sockets at this server."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None)
    yield page
    assert not wrong


def agree(page: Page, github: GitHubServer, login: str) -> None:
    """What the user does at GitHub, whose page the browser is on."""
    page.wait_for_url(f"{github.url}/login/oauth/authorize?*")
    page.goto(github.authorize(page.url, login))


def test_somebody_signs_in_connects_repositories_and_lets_go(page: Page, live_server: LiveServer, github: GitHubServer) -> None:
    github.add_user("octo")
    page.goto(f"{live_server.url}/settings/")
    page.get_by_role("button", name="Sign in with GitHub").click()
    agree(page, github, "octo")
    expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()
    section = page.locator("#github")
    expect(section).to_contain_text("It cannot reach your private repositories")
    section.get_by_role("button", name="Connect repositories").click()
    agree(page, github, "octo")
    expect(page.locator("#messages")).to_contain_text("You are connected to GitHub as octo.")
    expect(section.get_by_role("button", name="Connect again")).to_be_visible()
    section.get_by_role("link", name="Disconnect GitHub").click()
    page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
    expect(section).to_contain_text("You sign in with it; no token is kept.")
    section.get_by_text("Paste a personal access token").click()
    section.get_by_label("Token").fill("ghp_unknown")
    section.get_by_role("button", name="Check and save").click()
    expect(section).to_contain_text("GitHub does not take this token.")
    expect(section.get_by_label("Token")).to_have_value("")
