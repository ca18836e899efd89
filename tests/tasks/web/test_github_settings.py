"""GitHub in the settings: connecting repositories, pasting a token, disconnecting; and by which token we act."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tasks.github_api import credentials
from tasks.models import GitHubAccount, User
from tests.github.server import GitHubServer, github_server

pytestmark = pytest.mark.django_db
CONNECT, BACK = "/settings/github/connect", "/accounts/github/login/callback/"
HTMX = {"HX-Request": "true"}
PAT = "github_pat_0123456789abcdef"


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_oauth_app("client", "app-secret", [f"http://testserver{BACK}"])
        yield server


@pytest.fixture
def github(server: GitHubServer, settings: Settings) -> Iterator[GitHubServer]:
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    settings.GITHUB_URL, settings.GITHUB_API_URL = server.url, server.api_url
    settings.GITHUB_CLIENT_ID, settings.GITHUB_CLIENT_SECRET = "client", "app-secret"
    settings.GITHUB_ALLOWED_USERS, settings.GITHUB_ALLOWED_ORGS, settings.GITHUB_TOKEN = frozenset(), frozenset(), ""
    server.forget()
    yield server
    server.world.people.clear()
    server.world.tokens.clear()


def go(client: Client, github: GitHubServer, login: str, begin: str = CONNECT) -> Any:
    parts = urlsplit(github.authorize(client.post(begin).headers["Location"], login))
    return client.get(f"{parts.path}?{parts.query}", follow=True)


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


# --- connecting ----------------------------------------------------------------------------------------------------------


def test_repositories_are_connected_by_a_second_authorization(github: GitHubServer, as_alice: Client, alice: User) -> None:
    person = github.add_user("octo")
    asked = parse_qs(urlsplit(as_alice.post(CONNECT).headers["Location"]).query)["scope"][0].split()
    assert {"repo", "workflow", "read:user", "user:email"} == set(asked)
    response = go(as_alice, github, "octo")
    assert response.redirect_chain[-1] == ("/settings/#github", 302)
    assert "You are connected to GitHub as octo." in text(response)
    account = GitHubAccount.objects.get(user=alice)
    assert (account.github_id, account.login, account.kind) == (person.id, "octo", "oauth")
    assert "repo" in account.scopes
    assert credentials.token_for(alice) == account.token
    assert account.token not in response.content.decode()


def test_an_operator_connects_whoever_the_lists_are_for_and_signs_in_with_it(github: GitHubServer, as_alice: Client, alice: User) -> None:
    github.add_user("octo")
    go(as_alice, github, "octo")
    client = Client()
    go(client, github, "octo", "/accounts/github/login/")
    assert client.get("/settings/").context["user"] == alice


def test_signing_in_takes_no_repositories_away(github: GitHubServer, as_alice: Client, alice: User) -> None:
    github.add_user("octo")
    go(as_alice, github, "octo")
    before = GitHubAccount.objects.get().token
    go(Client(), github, "octo", "/accounts/github/login/")
    assert GitHubAccount.objects.get().token == before


def test_connecting_wants_a_session_and_post(github: GitHubServer, as_alice: Client) -> None:
    assert Client().post(CONNECT).headers["Location"].startswith("/sign-in/")
    assert as_alice.get(CONNECT).status_code == 405


def test_an_account_that_somebody_else_has_connected_is_refused(github: GitHubServer, as_alice: Client, as_bob: Client, bob: User) -> None:
    github.add_user("octo")
    go(as_alice, github, "octo")
    response = go(as_bob, github, "octo")
    assert "Somebody else here has connected octo." in text(response)
    assert not GitHubAccount.objects.filter(user=bob).exists()
    assert response.context["user"] == bob


def test_another_account_is_connected_after_the_first_is_let_go_only(github: GitHubServer, as_alice: Client) -> None:
    github.add_user("octo")
    github.add_user("second")
    go(as_alice, github, "octo")
    assert "Disconnect that one first." in text(go(as_alice, github, "second"))
    as_alice.post("/settings/github/disconnect")
    go(as_alice, github, "second")
    assert GitHubAccount.objects.get().login == "second"


def test_connecting_that_comes_back_to_nobody_signs_nobody_in(github: GitHubServer, as_alice: Client) -> None:
    github.add_user("octo")
    address = as_alice.post(CONNECT).headers["Location"]
    parts = urlsplit(github.authorize(address, "octo"))
    as_alice.logout()
    assert as_alice.get(f"{parts.path}?{parts.query}").status_code == 403
    assert not GitHubAccount.objects.exists()


def test_who_says_no_at_github_is_back_in_the_settings(github: GitHubServer, as_alice: Client) -> None:
    state = parse_qs(urlsplit(as_alice.post(CONNECT).headers["Location"]).query)["state"][0]
    response = as_alice.get(BACK, {"error": "access_denied", "state": state}, follow=True)
    assert "You did not allow it at GitHub" in text(response)
    assert response.redirect_chain[-1][0] == "/settings/#github"


# --- a pasted token -------------------------------------------------------------------------------------------------------


def paste(client: Client, token: str, **options: Any) -> Any:
    return client.post("/settings/github", {"token": token}, **options)


def test_a_fine_grained_token_is_checked_saved_and_never_shown(github: GitHubServer, as_alice: Client, alice: User) -> None:
    github.add_user("octo", PAT, scopes=None)
    response = paste(as_alice, PAT, headers=HTMX)
    assert response.status_code == 200
    assert text(response).startswith('<section id="github"')
    assert "You are connected to GitHub as octo." in text(response)
    assert "GitHub does not tell what this token may do." in text(response)
    account = GitHubAccount.objects.get(user=alice)
    assert (account.kind, account.token) == ("pat", PAT)
    assert PAT.encode() not in bytes(account.token_encrypted)
    assert PAT not in as_alice.get("/settings/").content.decode()
    assert credentials.token_for(alice) == PAT


def test_what_a_classic_token_lacks_is_said(github: GitHubServer, as_alice: Client) -> None:
    github.add_user("octo", "ghp_public", scopes=("public_repo",))
    page = text(paste(as_alice, "ghp_public", follow=True))
    assert "<code>public_repo</code>" in page
    assert "It reaches public repositories only" in page
    assert "It cannot push changes to files in .github/workflows" in page


@pytest.mark.parametrize("token", ["ghp_unknown", "with space in it", "ghp_8", "ünicode-token", ""])
def test_a_token_that_is_none_is_refused_and_not_repeated(github: GitHubServer, as_alice: Client, token: str) -> None:
    response = paste(as_alice, token)
    assert response.status_code == 422
    assert not token or token not in response.content.decode()
    assert not GitHubAccount.objects.exists()


@pytest.mark.parametrize("trouble", [{"status": 500}, {"drops": True}, {"status": 200, "body": b"<html>"}, {"status": 302}])
def test_a_token_that_cannot_be_checked_now_is_not_saved(github: GitHubServer, as_alice: Client, trouble: dict[str, Any]) -> None:
    github.add_user("octo", PAT, scopes=None)
    github.fault("/api/v3/user$", times=None, **trouble)
    response = paste(as_alice, PAT)
    assert response.status_code == 422
    assert re.search("It could not be asked who you are at GitHub|GitHub does not tell whose token this is", text(response))
    assert not GitHubAccount.objects.exists()


def test_a_classic_token_without_scopes_is_refused(github: GitHubServer, as_alice: Client) -> None:
    github.add_user("octo", "ghp_nothing", scopes=())
    assert "This token has no scopes" in text(paste(as_alice, "ghp_nothing"))
    assert not GitHubAccount.objects.exists()


def test_tries_are_counted(github: GitHubServer, as_alice: Client) -> None:
    assert [paste(as_alice, "ghp_unknown").status_code for _ in range(21)][-1] == 429


# --- letting go -------------------------------------------------------------------------------------------------------------


def test_disconnecting_forgets_the_account_of_who_comes_in_otherwise(github: GitHubServer, as_alice: Client) -> None:
    github.add_user("octo", PAT, scopes=None)
    paste(as_alice, PAT)
    assert "other ways stay" in text(as_alice.get("/settings/github/disconnect"))
    assert as_alice.post("/settings/github/disconnect").headers["Location"] == "/settings/#github"
    assert not GitHubAccount.objects.exists()
    assert as_alice.get("/settings/github/disconnect").status_code == 404


def test_who_comes_in_by_the_lists_loses_the_token_and_stays_theirs_to_judge(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    client = Client()
    go(client, github, "octo", "/accounts/github/login/")
    assert "You go on signing in with GitHub." in text(client.get("/settings/github/disconnect"))
    client.post("/settings/github/disconnect")
    account = GitHubAccount.objects.get()
    assert (account.token, account.scopes) == ("", [])
    go(client, github, "octo")
    assert GitHubAccount.objects.get().checked_at is not None


# --- by which token --------------------------------------------------------------------------------------------------------


def connected(user: User, **fields: Any) -> GitHubAccount:
    account = GitHubAccount(user=user, github_id=user.pk, login="octo", **{"scopes": ["repo"]} | fields)
    account.token = "gho_own"
    account.save()
    return account


def test_own_token_first_then_the_sites_then_what_to_do(alice: User, bob: User, settings: Settings) -> None:
    settings.GITHUB_TOKEN = ""
    with pytest.raises(credentials.NoToken, match="Connect your repositories in Settings"):
        credentials.token_for(alice)
    settings.GITHUB_TOKEN = "ghp_site"
    connected(bob)
    assert [credentials.token_for(user) for user in (alice, bob)] == ["ghp_site", "gho_own"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scopes": ["read:user", "user:email"]}, "your repositories are not connected"),
        ({"refused_at": timezone.now()}, "GitHub does not take your token any more"),
        ({"expires_at": timezone.now() - timedelta(hours=1)}, "GitHub does not take your token any more"),
    ],
)
def test_a_token_that_cannot_do_it_is_not_used(alice: User, settings: Settings, fields: dict[str, Any], said: str) -> None:
    settings.GITHUB_TOKEN = ""
    connected(alice, **fields)
    with pytest.raises(credentials.NoToken, match=said):
        credentials.token_for(alice)
    credentials.refused(alice)
    assert GitHubAccount.objects.get().refused_at == fields.get("refused_at")  # it was not this one that was refused
    settings.GITHUB_TOKEN = "ghp_site"
    assert credentials.token_for(alice) == "ghp_site"


def test_a_token_that_github_refused_is_asked_for_anew(alice: User, as_alice: Client, settings: Settings) -> None:
    settings.GITHUB_TOKEN = ""
    connected(alice)
    assert "Connect again, or paste a new one." not in text(as_alice.get("/settings/"))
    credentials.refused(alice)
    assert GitHubAccount.objects.get().refused_at is not None
    assert "GitHub does not take this token any more. Connect again, or paste a new one." in text(as_alice.get("/settings/"))
    page = text(as_alice.get("/repos/"))
    assert "GitHub does not take your token any more." in page
    assert 'href="/settings/#github"' in page
