"""GitHub's part of the composer's picker by keyboard, as somebody types faster than GitHub answers."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.test import Client
from playwright.sync_api import BrowserContext, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from tasks.models import GitHubAccount, User
from tests.github.server import GitHubServer, github_server

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing() -> None:
    """Nothing of the product that other tests share is used here."""


@pytest.fixture
def github(settings: Settings) -> Iterator[GitHubServer]:
    with github_server() as server:
        settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
        settings.GITHUB_URL, settings.GITHUB_API_URL = server.url, server.api_url
        settings.ALLOW_PRIVATE_HOSTS = frozenset({server.url.removeprefix("http://")})
        server.add_user("octo", "ghp_octo")
        for number in range(3):
            server.add_repo(f"octo/part-{number}")
        yield server


@pytest.fixture
def octo(db: None, github: GitHubServer, context: BrowserContext, live_server: LiveServer) -> User:
    """Somebody who is signed in, and connected to GitHub."""
    user = User.objects.create_user("octo")
    account = GitHubAccount(user=user, github_id=1, login="octo", scopes=["repo"])
    account.token = "ghp_octo"
    account.save()
    client = Client()
    client.force_login(user)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    return user


def test_enter_waits_for_github_and_more_goes_on_where_the_button_was(
    context: BrowserContext, octo: User, github: GitHubServer, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.github_api.client.PER_PAGE", 2)
    page = context.new_page()
    page.goto(live_server.url)
    chip = page.locator("#repo-picker > summary")
    chip.press("Enter")
    options = page.locator("#repo-picker .at-github .option")
    expect(options).to_have_count(2)
    more = page.get_by_role("button", name="Show more")
    more.press("Enter")
    expect(options).to_have_count(3)
    expect(options.nth(2).get_by_role("radio")).to_be_focused()
    expect(more).to_have_count(0)
    page.keyboard.type("octo/part-1")  # who goes on typing goes on searching
    page.keyboard.press("Enter")
    expect(chip).to_contain_text("octo/part-1")
    expect(chip).to_be_focused()
    expect(page.locator("#branch-picker > summary")).to_contain_text("main")
    expect(page.locator("#id_source")).to_have_value(f"{github.url}/octo/part-1")
