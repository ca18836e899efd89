"""By which token we act at GitHub where there is a GitHub App; and tokens of people that expire."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.cache import cache
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from tasks.credentials import rotate_keys
from tasks.github import app_events, people
from tasks.github.payloads import Fields, Ignored, kept
from tasks.github_api import apps, credentials, installations, renewal
from tasks.github_api.admission import Unclear
from tasks.github_api.client import GitHub
from tasks.github_api.credentials import NoToken
from tasks.github_api.errors import NotFoundOnGitHub, Unavailable
from tasks.models import GitHubAccount, GitHubApp, User
from tests.github.apps import App
from tests.github.server import GitHubServer, github_server
from tests.tasks.github_app import clean, known, manifest

pytestmark = pytest.mark.django_db
DEMO = "acme/demo"


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        for login in ("octo", "reader"):
            server.add_user(login)
        server.add_repo(DEMO, private=True, permissions={"octo": "push", "reader": "pull"})
        server.add_repo("acme/other", private=True, permissions={"octo": "push"})
        yield server


@pytest.fixture
def github(server: GitHubServer, settings: Settings) -> Iterator[GitHubServer]:
    with clean(server, settings):
        for login in ("octo", "reader"):
            server.add_user(login)
        server.world.repositories[DEMO].permissions["octo"] = "push"
        yield server


@pytest.fixture
def app(github: GitHubServer) -> App:
    """Installed on all of acme."""
    app = github.apps.add("acme", manifest())
    known(app, github)
    github.apps.install(app, "acme")
    return app


def account(github: GitHubServer, user: User, login: str = "octo", token: str = "", **fields: Any) -> GitHubAccount:
    row = GitHubAccount(user=user, github_id=github.world.people[login].id, login=login, **fields)
    row.token = token
    row.save()
    return row


def by_app(github: GitHubServer, app: App, user: User, *, expires_in: timedelta = timedelta(hours=8)) -> GitHubAccount:
    """Somebody who has signed in by the app, whose token ends then."""
    said = github.apps.issue(app, "octo")
    row = account(github, user, token=said["access_token"], client_id=app.client_id, expires_at=timezone.now() + expires_in)
    row.refresh_token, row.refresh_expires_at = said["refresh_token"], timezone.now() + timedelta(days=180)
    row.save()
    return row


def asked(github: GitHubServer, what: str) -> int:
    return sum(1 for one in github.seen if one.path.endswith(what))


def row() -> GitHubApp:
    return GitHubApp.objects.get()


# --- tokens of installations ------------------------------------------------------------------------------------------------


def test_who_may_write_gets_one_token_of_the_apps_for_many_uses_good_for_that_repository_only(
    github: GitHubServer, app: App, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    account(github, alice)
    tokens = {credentials.token_for(alice, DEMO) for _ in range(3)}
    assert len(tokens) == 1
    token = tokens.pop()
    assert token.startswith("ghs_")
    assert (asked(github, "/access_tokens"), asked(github, "/permission"), asked(github, "/installation")) == (1, 1, 1)
    minted = next(one for one in github.seen if one.path.endswith("/access_tokens"))
    assert minted.json == {"repositories": ["demo"], "permissions": apps.REPOSITORY_PERMISSIONS}
    with GitHub(token) as client:
        assert client.repo(DEMO).can_push
        with pytest.raises(NotFoundOnGitHub):
            client.repo("acme/other")
    other = credentials.token_for(alice, "acme/other")
    assert other not in ("", token)
    redis = cache._cache.get_client()  # type: ignore[attr-defined]
    for key in redis.keys("*"):
        assert token.encode() not in (redis.get(key) if redis.type(key) == b"string" else b"")
    assert token not in caplog.text + repr(row())


def test_a_token_that_is_about_to_end_is_not_given_out_again(github: GitHubServer, app: App) -> None:
    app.token_s = 299
    assert credentials.app_token(DEMO) != credentials.app_token(DEMO)
    app.token_s = 3600
    assert credentials.app_token(DEMO) == credentials.app_token(DEMO)


def test_a_token_is_asked_no_more_than_the_installation_has(github: GitHubServer, app: App) -> None:
    app.installations["acme"].permissions = {"contents": "write", "pull_requests": "read", "administration": "write"}
    assert credentials.app_token(DEMO)
    minted = next(one for one in github.seen if one.path.endswith("/access_tokens"))
    assert minted.json["permissions"] == {"contents": "write", "pull_requests": "read"}


def test_ones_own_token_comes_first_and_the_sites_last(github: GitHubServer, app: App, alice: User, bob: User, settings: Settings) -> None:
    settings.GITHUB_TOKEN = "ghp_site"
    mine = account(github, alice, token="ghp_mine", scopes=["repo"])
    assert credentials.token_for(alice, DEMO) == "ghp_mine"
    assert credentials.token_for(bob, DEMO) == "ghp_site"  # whose account at GitHub is not known
    GitHubAccount.objects.filter(pk=mine.pk).update(scopes=["read:user"])
    assert credentials.token_for(alice, DEMO).startswith("ghs_")
    assert credentials.token_for(alice) == "ghp_site"


def test_who_may_only_read_gets_no_token_of_the_apps(github: GitHubServer, app: App, bob: User) -> None:
    account(github, bob, "reader", "gho_signed_in", scopes=["read:user"])
    with pytest.raises(NoToken, match="your repositories are not connected"):
        credentials.token_for(bob, DEMO)
    assert asked(github, "/collaborators/reader/permission") == 1


def test_a_name_that_changed_hands_opens_nothing(github: GitHubServer, app: App, bob: User) -> None:
    GitHubAccount.objects.create(user=bob, github_id=123456, login="octo")
    with pytest.raises(NoToken):
        credentials.token_for(bob, DEMO)


def test_whoever_loses_their_access_loses_it_here_within_a_minute(github: GitHubServer, app: App, alice: User) -> None:
    account(github, alice)
    assert credentials.token_for(alice, DEMO)
    assert installations.PERMISSION_S <= 60
    github.world.repositories[DEMO].permissions["octo"] = "pull"
    installations.forget(row(), "acme")  # as the end of that minute does
    with pytest.raises(NoToken):
        credentials.token_for(alice, DEMO)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda apps, app: apps.uninstall(app, "acme"), r"is not installed on acme/demo. Install it there: http\S+/installations/new"),
        (lambda apps, app: apps.suspend(app, "acme"), "is suspended on acme. Its owners can end that: http"),
        (lambda apps, app: app.installations["acme"].permissions.update(contents="read"), "Its owners have to accept its permissions"),
        (lambda apps, app: apps.delete(app), "Ask an operator of this server"),
    ],
)
def test_why_the_app_cannot_act_is_said_and_what_to_do(
    github: GitHubServer, app: App, alice: User, change: Callable[[Any, App], Any], said: str
) -> None:
    by_app(github, app, alice)
    change(github.apps, app)
    with pytest.raises(NoToken, match=said):
        credentials.token_for(alice, DEMO)
    assert credentials.app_token(DEMO) is None
    assert not credentials.is_refused(alice)


def test_a_token_by_the_app_is_used_where_that_is_installed(github: GitHubServer, app: App, alice: User, settings: Settings) -> None:
    settings.GITHUB_TOKEN = "ghp_site"
    mine = by_app(github, app, alice)
    github.apps.install(app, "acme", (DEMO,))
    assert credentials.token_for(alice, DEMO) == mine.token
    assert credentials.token_for(alice) == mine.token
    assert credentials.token_for(alice, "acme/other") == "ghp_site"
    credentials.refused(alice, "acme/other")  # the site's, so it is not alice who has to sign in again
    assert not credentials.is_refused(alice)
    credentials.refused(alice, DEMO)
    assert credentials.is_refused(alice)


def test_a_token_of_the_apps_that_github_refuses_is_made_anew(github: GitHubServer, app: App, alice: User) -> None:
    account(github, alice)
    before = credentials.token_for(alice, DEMO)
    github.apps.revoke_tokens(app)
    credentials.refused(alice, DEMO)
    assert credentials.token_for(alice, DEMO) != before
    assert not credentials.is_refused(alice)


def test_when_github_is_down_that_is_said_and_nothing_is_remembered(github: GitHubServer, app: App, alice: User) -> None:
    account(github, alice)
    github.fault("/installation$", status=503)
    with pytest.raises(Unavailable):
        credentials.token_for(alice, DEMO)
    assert credentials.token_for(alice, DEMO)


def test_the_app_speaks_under_its_own_name(github: GitHubServer, app: App) -> None:
    assert apps.bot_login() == app.bot
    GitHubApp.objects.all().delete()
    assert (apps.bot_login(), credentials.app_token(DEMO)) == ("", None)


# --- webhooks about the app -------------------------------------------------------------------------------------------------


def told(event: str, action: str, **payload: Any) -> str:
    fields = Fields(kept(event, {"action": action, **payload}))
    return app_events.HANDLERS[event]("", action, fields)


@pytest.mark.parametrize(
    ("event", "action", "said"),
    [
        ("installation", "deleted", "is removed from Acme"),
        ("installation", "suspend", "is suspended on Acme"),
        ("installation_repositories", "removed", "reaches fewer repositories of Acme"),
    ],
)
def test_what_happens_to_an_installation_makes_its_tokens_forgotten(
    github: GitHubServer, app: App, event: str, action: str, said: str
) -> None:
    before = credentials.app_token(DEMO)
    outcome = told(event, action, installation={"app_id": app.id, "account": {"login": "Acme"}})
    assert said in outcome
    assert "its tokens among it, is forgotten" in outcome
    assert credentials.app_token(DEMO) != before


def test_what_happens_to_other_apps_is_ignored(github: GitHubServer, app: App) -> None:
    before = credentials.app_token(DEMO)
    with pytest.raises(Ignored, match="another GitHub App"):
        told("installation", "deleted", installation={"app_id": app.id + 1, "account": {"login": "acme"}})
    assert credentials.app_token(DEMO) == before


def test_whoever_takes_back_what_they_allowed_the_app_is_asked_to_connect_again(github: GitHubServer, app: App, alice: User) -> None:
    mine = by_app(github, app, alice)
    with pytest.raises(Ignored):
        told("github_app_authorization", "revoked", sender={"id": mine.github_id + 1})
    told("github_app_authorization", "revoked", sender={"id": mine.github_id})
    assert credentials.is_refused(alice)


# --- tokens that expire -----------------------------------------------------------------------------------------------------


def test_a_token_is_renewed_shortly_before_its_end_and_when_it_is_over(github: GitHubServer, app: App, alice: User) -> None:
    for expires_in in (timedelta(minutes=5), timedelta(hours=-1)):
        GitHubAccount.objects.all().delete()
        before = by_app(github, app, alice, expires_in=expires_in)
        assert not credentials.needs_sign_in(before)
        assert not credentials.is_refused(alice)
        token = credentials.token_for(alice, DEMO)
        after = GitHubAccount.objects.get()
        assert token == after.token != before.token
        assert after.refresh_token != before.refresh_token
        assert after.expires_at is not None
        assert after.expires_at > timezone.now() + timedelta(hours=7)
        assert credentials.token_for(alice, DEMO) == token
    assert sum(one.path == "/login/oauth/access_token" for one in github.seen) == 2


@pytest.mark.parametrize("is_over", [False, True])
def test_what_github_does_not_renew_is_asked_for_anew_once_it_is_over(github: GitHubServer, app: App, alice: User, is_over: bool) -> None:
    mine = by_app(github, app, alice, expires_in=timedelta(minutes=-1 if is_over else 5))
    mine.refresh_token = "ghr_used_before"
    mine.save()
    assert credentials.token_for(alice, DEMO) == mine.token if not is_over else credentials.token_for(alice, DEMO).startswith("ghs_")
    assert credentials.is_refused(alice) == is_over


def test_while_github_is_down_a_token_that_is_not_over_goes_on(github: GitHubServer, app: App, alice: User) -> None:
    mine = by_app(github, app, alice, expires_in=timedelta(minutes=5))
    github.fault("/login/oauth/access_token", status=502, times=2)
    assert credentials.token_for(alice, DEMO) == mine.token
    GitHubAccount.objects.update(expires_at=timezone.now())
    with pytest.raises(Unavailable, match="cannot be renewed"):
        credentials.token_for(alice, DEMO)
    assert not credentials.is_refused(alice)
    assert credentials.token_for(alice, DEMO) != mine.token


@pytest.mark.django_db(transaction=True)
def test_two_at_once_renew_it_once(github: GitHubServer, app: App, alice: User) -> None:
    mine = by_app(github, app, alice, expires_in=timedelta(minutes=1))
    github.fault("/login/oauth/access_token", status=0, delay_s=0.3, times=None)

    def renewed(_: int) -> str:
        try:
            return renewal.renewed(mine).token
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        tokens = set(pool.map(renewed, range(4)))
    assert tokens == {GitHubAccount.objects.get().token} != {mine.token}
    assert sum(one.path == "/login/oauth/access_token" for one in github.seen) == 1


def test_the_daily_look_renews_too_and_a_refusal_there_signs_out(github: GitHubServer, app: App, alice: User, settings: Settings) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    mine = by_app(github, app, alice, expires_in=timedelta(hours=-1))
    GitHubAccount.objects.update(checked_at=timezone.now())
    people.check_everybody()
    assert GitHubAccount.objects.get().token != mine.token
    mine = GitHubAccount.objects.get()
    mine.refresh_token, mine.expires_at = "ghr_taken_back", timezone.now()
    mine.save()
    salt = User.objects.get(pk=alice.pk).session_salt
    people.check_everybody()
    assert User.objects.get(pk=alice.pk).session_salt != salt
    assert credentials.is_refused(alice)


def test_an_organization_without_the_app_has_not_said_that_somebody_is_no_member(
    github: GitHubServer, app: App, settings: Settings
) -> None:
    settings.GITHUB_ALLOWED_ORGS = frozenset({"elsewhere"})
    token = github.apps.issue(app, "octo")["access_token"]
    person = credentials.Person(github.world.people["octo"].id, "octo", token=token, client_id=app.client_id)
    with pytest.raises(Unclear, match="Its owners have to install the GitHub App"):
        people.come_in(person)
    github.apps.install(app, "elsewhere")
    installations.forget(row(), "elsewhere")
    with pytest.raises(people.NotAllowed):
        people.come_in(person)


# --- keys -----------------------------------------------------------------------------------------------------------------


def test_new_encryption_keys_take_all_secrets_along(github: GitHubServer, app: App, alice: User, settings: Settings) -> None:
    by_app(github, app, alice)
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.ENCRYPTION_KEYS]
    assert sum(batch.written for batch in rotate_keys()) == 5
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    found, mine = row(), GitHubAccount.objects.get()
    assert (found.client_secret, found.private_key, found.webhook_secret) == (app.client_secret, app.pem, app.webhook_secret)
    assert mine.token.startswith("ghu_")
    assert mine.refresh_token.startswith("ghr_")
    assert credentials.app_token(DEMO)
