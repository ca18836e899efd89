"""Signing in with GitHub: there and back over HTTP, who may come in, and what no attacker gets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tasks import accounts, tokens
from tasks.github import people
from tasks.github_api import admission
from tasks.models import ApiToken, GitHubAccount, LoginLink, User
from tests.github.server import GitHubServer, github_server

pytestmark = pytest.mark.django_db
BEGIN, BACK = "/accounts/github/login/", "/accounts/github/login/callback/"


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_oauth_app("client", "app-secret", [f"http://testserver{BACK}"])
        yield server


@pytest.fixture
def github(server: GitHubServer, settings: Settings) -> Iterator[GitHubServer]:
    """GitHub, with nobody in it, where this site is known."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    settings.GITHUB_URL, settings.GITHUB_API_URL = server.url, server.api_url
    settings.GITHUB_CLIENT_ID, settings.GITHUB_CLIENT_SECRET = "client", "app-secret"
    settings.GITHUB_ALLOWED_USERS, settings.GITHUB_ALLOWED_ORGS, settings.GITHUB_TOKEN = frozenset(), frozenset(), ""
    server.forget()
    yield server
    server.world.people.clear()
    server.world.tokens.clear()


def leave(client: Client, page: str = "", begin: str = BEGIN) -> str:
    """Where the button leads to."""
    response = client.post(begin, {"next": page})
    assert response.status_code == 302
    return response.headers["Location"]


def come_back(client: Client, address: str) -> Any:
    parts = urlsplit(address)
    return client.get(f"{parts.path}?{parts.query}")


def sign_in(github: GitHubServer, login: str, client: Client | None = None, page: str = "", begin: str = BEGIN) -> tuple[Client, Any]:
    client = client or Client()
    return client, come_back(client, github.authorize(leave(client, page, begin), login))


def is_in(client: Client) -> bool:
    return client.get("/settings/").status_code == 200


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


# --- there and back -----------------------------------------------------------------------------------------------------


def test_who_is_listed_comes_in_and_gets_to_the_page_they_wanted(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    person = github.add_user("Octo", name="Octo Cat")
    client, response = sign_in(github, "Octo", page="/repos/")
    assert (response.status_code, response.headers["Location"]) == (302, "/repos/")
    user = GitHubAccount.objects.get(github_id=person.id).user
    assert (user.username, user.display_name, user.email) == ("Octo", "Octo Cat", "octo@example.org")
    assert not user.is_staff
    assert not user.has_usable_password()
    assert is_in(client)
    sign_in(github, "Octo")
    assert User.objects.filter(username__startswith="Octo").count() == 1


def test_signing_in_asks_for_the_least_and_proves_the_code_by_pkce(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    client = Client()
    address = leave(client)
    asked = parse_qs(urlsplit(address).query)
    assert address.startswith(f"{github.url}/login/oauth/authorize?")
    assert set(asked["scope"][0].split()) == {"read:user", "user:email"}
    assert asked["code_challenge_method"] == ["S256"]
    come_back(client, github.authorize(address, "octo"))
    token = next(seen for seen in github.seen if seen.path == "/login/oauth/access_token")
    assert b"code_verifier=" in token.body
    settings.GITHUB_ALLOWED_ORGS = frozenset({"acme"})
    assert "read:org" in parse_qs(urlsplit(leave(Client())).query)["scope"][0].split()


def test_the_token_is_kept_encrypted_and_in_our_row_only(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    sign_in(github, "octo")
    account = GitHubAccount.objects.get()
    [token] = github.world.tokens
    assert account.token == token
    assert account.scopes == ["read:user", "user:email"]
    assert token.encode() not in bytes(account.token_encrypted)
    with connection.cursor() as cursor:
        for table in ("socialaccount_socialaccount", "socialaccount_socialtoken", "account_emailaddress"):
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone() == (0,)


def test_the_button_is_there_when_it_leads_somewhere(client: Client, github: GitHubServer, settings: Settings) -> None:
    response = client.get("/sign-in/?next=/repos/")
    assert "Sign in with GitHub" in text(response)
    assert f"form-action 'self' {github.url}" in response.headers["Content-Security-Policy"]
    settings.GITHUB_CLIENT_ID = ""
    response = client.get("/sign-in/")
    assert "GitHub" not in text(response)
    assert "form-action 'self';" in response.headers["Content-Security-Policy"] + ";"
    assert client.post(BEGIN).status_code == 404
    assert client.get(BACK).status_code == 404


@pytest.mark.parametrize(
    "page", ["signup/", "login/", "password/reset/", "password/change/", "email/", "social/connections/", "social/signup/", "logout/", ""]
)
def test_no_page_of_allauth_has_an_address(as_alice: Client, client: Client, page: str) -> None:
    for one in (client, as_alice):
        assert one.get(f"/accounts/{page}").status_code == 404


def test_a_sign_in_begins_by_post_with_a_csrf_token_only(github: GitHubServer) -> None:
    assert Client().get(BEGIN).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(BEGIN).status_code == 403


def test_a_sign_in_leads_to_no_other_site(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    _, response = sign_in(github, "octo", page="//evil.example/")
    assert response.headers["Location"] == "/"


def test_the_scope_and_parameters_of_a_sign_in_are_not_the_browsers_to_choose(github: GitHubServer) -> None:
    address = Client().post(f"{BEGIN}?scope=repo&auth_params=redirect_uri%3Dhttps://evil.example&process=connect").headers["Location"]
    assert "repo" not in parse_qs(urlsplit(address).query)["scope"][0].split()
    assert "evil" not in address


def test_too_many_sign_ins_are_refused(github: GitHubServer) -> None:
    client = Client()
    statuses = {client.post(BEGIN).status_code for _ in range(61)}
    assert statuses == {302, 429}


# --- who may not ---------------------------------------------------------------------------------------------------------


def test_without_lists_nobody_new_comes_in(github: GitHubServer) -> None:
    github.add_user("octo")
    client, response = sign_in(github, "octo")
    assert response.status_code == 403
    assert "Your GitHub account octo may not come in here." in text(response)
    assert not is_in(client)
    assert not User.objects.exists()


def test_members_of_a_listed_organization_come_in(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_ORGS = frozenset({"acme", "other"})
    github.add_user("octo", orgs=["acme"])
    github.add_user("stranger", orgs=["else"])
    client, _ = sign_in(github, "octo")
    assert is_in(client)
    client, response = sign_in(github, "stranger")
    assert response.status_code == 403
    assert not is_in(client)


def test_an_invitation_is_no_membership(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_ORGS = frozenset({"acme"})
    github.add_user("octo")
    github.fault("/user/memberships/orgs/acme", status=200, body={"state": "pending"})
    assert sign_in(github, "octo")[1].status_code == 403


@pytest.mark.parametrize("trouble", [{"status": 500}, {"status": 403}, {"drops": True}, {"status": 200, "body": b"<html>"}])
def test_nobody_comes_in_while_github_does_not_say_who_is_a_member(
    github: GitHubServer, settings: Settings, trouble: dict[str, Any]
) -> None:
    settings.GITHUB_ALLOWED_ORGS = frozenset({"acme"})
    github.add_user("octo", orgs=["acme"])
    github.fault("/user/memberships/", times=None, **trouble)
    client, response = sign_in(github, "octo")
    assert response.status_code == 503
    assert not is_in(client)
    assert not User.objects.exists()


def test_nobody_is_let_into_an_account_by_its_address_or_name(github: GitHubServer, settings: Settings, alice: User) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"alice"})
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")
    github.add_user("alice", email="alice@example.org", is_email_public=True)
    sign_in(github, "alice")
    other = GitHubAccount.objects.get().user
    assert other.pk != alice.pk
    assert other.username == "alice-2"
    assert not other.is_staff


def test_a_name_that_changed_hands_lets_nobody_else_in(github: GitHubServer, settings: Settings, bob: User) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    GitHubAccount.objects.create(user=bob, github_id=999_999, login="octo", checked_at=timezone.now())
    github.add_user("octo")
    client, response = sign_in(github, "octo")
    assert "names at GitHub can change hands" in text(response)
    assert not is_in(client)


def test_a_user_whom_an_operator_made_inactive_stays_out(github: GitHubServer, bob: User) -> None:
    person = github.add_user("octo")
    GitHubAccount.objects.create(user=bob, github_id=person.id, login="octo")
    client, response = sign_in(github, "octo")
    assert is_in(client)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    client, response = sign_in(github, "octo")
    assert "An operator of this server has closed your account." in text(response)
    assert not is_in(client)
    User.objects.filter(pk=bob.pk).update(is_active=True, expires_at=timezone.now())  # a test user whose time is up
    client, response = sign_in(github, "octo")
    assert not is_in(client)


# --- what attackers try ---------------------------------------------------------------------------------------------------


def test_without_the_state_nothing_is_asked_of_github(github: GitHubServer) -> None:
    client = Client()
    leave(client)
    for query in ("", "?code=abc", "?code=abc&state=forged", "?error=access_denied", f"?code=abc&state={'x' * 5000}"):
        response = client.get(BACK + query)
        assert response.status_code == 403
        assert "Begin again." in text(response)
    assert github.seen == []


def test_a_state_is_good_in_the_browser_that_began_only(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"mallory"})
    github.add_user("mallory")
    back = github.authorize(leave(Client()), "mallory")
    victim = Client()
    assert come_back(victim, back).status_code == 403
    leave(victim)
    assert come_back(victim, back).status_code == 403
    assert not is_in(victim)


def test_a_code_is_good_once(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    client = Client()
    back = github.authorize(leave(client), "octo")
    assert come_back(client, back).status_code == 302
    client.logout()
    assert come_back(client, back).status_code == 403
    again = leave(client)
    code = parse_qs(urlsplit(back).query)["code"][0]
    response = client.get(BACK, {"code": code, "state": parse_qs(urlsplit(again).query)["state"][0]})
    assert response.status_code in (403, 502)
    assert not is_in(client)


def test_who_says_no_at_github_is_told_that_nothing_happened(github: GitHubServer) -> None:
    client = Client()
    state = parse_qs(urlsplit(leave(client)).query)["state"][0]
    response = client.get(BACK, {"error": "access_denied", "state": state})
    assert "You did not allow it at GitHub" in text(response)


@pytest.mark.parametrize("path", ["/login/oauth/access_token", "/api/v3/user$"])
@pytest.mark.parametrize("trouble", [{"status": 500}, {"drops": True}, {"status": 200, "body": b"nonsense"}, {"status": 200, "body": []}])
def test_trouble_at_github_is_a_sentence_and_no_session(
    github: GitHubServer, settings: Settings, path: str, trouble: dict[str, Any]
) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    client = Client()
    back = github.authorize(leave(client), "octo")
    github.fault(path, times=None, **trouble)
    response = come_back(client, back)
    assert response.status_code in (403, 502)
    assert 'role="alert"' in text(response)
    assert "app-secret" not in text(response)
    assert not is_in(client)


def test_a_login_in_the_servers_netrc_stands_in_for_nobody(
    github: GitHubServer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.GITHUB_ALLOWED_ORGS = frozenset({"acme"})
    github.add_user("operator", "ghp_operator", orgs=["acme"])
    github.add_user("stranger")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login operator password ghp_operator\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client, response = sign_in(github, "stranger")
    assert response.status_code == 403
    assert "Your GitHub account stranger may not come in here." in text(response)
    assert not is_in(client)
    assert not any(seen.login == "operator" for seen in github.seen)


def test_a_profile_without_a_verified_address_is_fine(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    github.fault("/user/emails", status=403, times=None)
    client, _ = sign_in(github, "octo")
    assert is_in(client)
    assert User.objects.get().email == ""


def test_a_sign_in_begins_a_new_session(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    client = Client()
    address = leave(client)
    before = client.cookies["sessionid"].value
    come_back(client, github.authorize(address, "octo"))
    assert client.cookies["sessionid"].value != before


# --- who may not any more -------------------------------------------------------------------------------------------------


@pytest.fixture
def octo(github: GitHubServer, settings: Settings) -> Client:
    """A member of acme, which is listed; signed in."""
    settings.GITHUB_ALLOWED_ORGS = frozenset({"acme"})
    github.add_user("octo", orgs=["acme"])
    return sign_in(github, "octo")[0]


def expel(github: GitHubServer) -> None:
    github.world.people["octo"] = replace(github.world.people["octo"], orgs=())


def test_who_leaves_the_organization_is_signed_out_everywhere_until_they_are_back(github: GitHubServer, octo: Client) -> None:
    user = User.objects.get()
    _, secret = tokens.create_token(user=user, name="ci", scope="read", expires_in_days=None)
    link = accounts.create_login_link(user=user)
    people.check_everybody()
    assert is_in(octo)
    expel(github)
    people.check_everybody()
    assert not is_in(octo)
    assert tokens.authenticate(secret, scope="read") is None  # type: ignore[arg-type]
    assert accounts.use_login_link(link.rstrip("/").rpartition("/")[2]) is None
    client, response = sign_in(github, "octo")
    assert response.status_code == 403
    assert not is_in(client)
    github.add_user("octo", orgs=["acme"])
    client, _ = sign_in(github, "octo")
    assert is_in(client)
    assert User.objects.get().pk == user.pk


def test_membership_is_asked_about_at_each_sign_in(github: GitHubServer, octo: Client) -> None:
    expel(github)
    assert is_in(octo)
    assert sign_in(github, "octo")[1].status_code == 403
    assert not is_in(octo)


def test_operators_see_who_is_not_listed_any_more(github: GitHubServer, octo: Client, as_alice: Client) -> None:
    page = as_alice.get("/admin/tasks/githubaccount/")
    assert "let in by the lists" in text(page)
    expel(github)
    people.check_everybody()
    page = as_alice.get("/admin/tasks/githubaccount/?entry=shut-out")
    assert "not listed any more: shut out" in text(page)
    assert page.context["cl"].result_count == 1


def test_whom_an_operator_lets_in_is_not_the_lists_any_more(github: GitHubServer, octo: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    operator = Client()
    operator.force_login(alice)
    expel(github)
    people.check_everybody()
    user = User.objects.get(username="octo")
    given = {"username": "octo", "theme": "system", "notify": "never", "is_active": "on", "email": user.email, "display_name": "x"}
    given |= {f"{rows}-{forms}_FORMS": "0" for rows in ("budgets", "quotas") for forms in ("TOTAL", "INITIAL")}
    response = operator.post(f"/admin/tasks/user/{user.pk}/change/", given)
    assert response.status_code == 302, response.context["adminform"].form.errors
    people.check_everybody()
    assert is_in(sign_in(github, "octo")[0])


def test_an_outage_signs_nobody_out_for_a_week(github: GitHubServer, octo: Client) -> None:
    github.fault("/api/v3/", status=500, times=None)
    people.check_everybody()
    assert is_in(octo)
    GitHubAccount.objects.update(checked_at=timezone.now() - people.UNCLEAR_FOR - timedelta(minutes=1))
    people.check_everybody()
    assert not is_in(octo)
    github.forget()
    assert is_in(sign_in(github, "octo")[0])


def test_who_takes_the_token_back_signs_in_again(github: GitHubServer, octo: Client) -> None:
    github.revoke(GitHubAccount.objects.get().token)
    people.check_everybody()
    assert not is_in(octo)
    assert GitHubAccount.objects.get().refused_at is not None
    client, _ = sign_in(github, "octo")
    assert is_in(client)
    assert GitHubAccount.objects.get().refused_at is None


def test_trouble_with_one_keeps_nobody_else_from_being_asked_about(github: GitHubServer, octo: Client) -> None:
    github.add_user("second", orgs=["acme"])
    client, _ = sign_in(github, "second")
    github.fault("/api/v3/user$", drops=True)
    github.world.people["second"] = replace(github.world.people["second"], orgs=())
    people.check_everybody()
    assert is_in(octo)
    assert not is_in(client)


def test_an_operator_who_is_not_listed_any_more_keeps_the_login_link_only(github: GitHubServer, octo: Client) -> None:
    User.objects.update(is_staff=True)
    user = User.objects.get()
    tokens.create_token(user=user, name="ci", scope="read", expires_in_days=None)
    expel(github)
    people.check_everybody()
    assert not is_in(octo)
    assert sign_in(github, "octo")[1].status_code == 403
    assert not ApiToken.objects.filter(revoked_at=None).exists()
    link = accounts.create_login_link(user=user)
    assert LoginLink.objects.filter(user=user).exists()
    assert accounts.use_login_link(link.rstrip("/").rpartition("/")[2]) == user


def test_a_renamed_account_is_judged_by_its_present_name(github: GitHubServer, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    github.add_user("octo")
    client, _ = sign_in(github, "octo")
    github.fault("/api/v3/user$", status=200, body={"id": GitHubAccount.objects.get().github_id, "login": "renamed"})
    people.check_everybody()
    assert not is_in(client)


def test_without_lists_those_who_are_there_stay(github: GitHubServer, octo: Client, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_ORGS = frozenset()
    assert not admission.has_lists()
    people.check_everybody()
    assert is_in(octo)
