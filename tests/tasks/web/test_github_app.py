"""The GitHub App of this server in the settings: made by a manifest, forgotten, and where it is installed; signing in by it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from pytest_django import Settings

from tasks.models import AuditEntry, GitHubAccount, GitHubApp, Repo, User
from tests.github.server import GitHubServer, github_server
from tests.tasks.github_app import ADDRESS, clean, known, manifest

pytestmark = pytest.mark.django_db
BEGIN, MADE, FORGET = "/settings/github/app", "/settings/github/app/made", "/settings/github/app/forget"


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        yield server


@pytest.fixture
def github(server: GitHubServer, settings: Settings) -> Iterator[GitHubServer]:
    settings.PUBLIC_URL = ADDRESS
    with clean(server, settings):
        yield server


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


def begin(client: Client, organization: str = "") -> Any:
    return client.post(BEGIN, {"organization": organization})


def to_github(response: Any) -> tuple[str, dict[str, Any]]:
    """Where the page's form goes to, and the manifest in it."""
    return response.context["target"], json.loads(response.context["manifest"])


def create(client: Client, github: GitHubServer, organization: str = "") -> str:
    """All up to GitHub's way back: path and query of where the browser comes back to."""
    target, said = to_github(begin(client, organization))
    parts = urlsplit(github.apps.create(target, json.dumps(said), "octo"))
    return f"{parts.path}?{parts.query}"


# --- making it ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("organization", "path"), [("", "/settings/apps/new"), ("acme", "/organizations/acme/settings/apps/new")])
def test_an_operator_makes_the_app_at_github_and_its_keys_are_kept_encrypted(
    github: GitHubServer, as_alice: Client, alice: User, organization: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    github.add_user("octo")
    page = begin(as_alice, organization)
    target, said = to_github(page)
    assert target.startswith(f"{github.url}{path}?state=")
    assert f"form-action 'self' {github.url}" in page.headers["Content-Security-Policy"]
    assert unescape(page.content.decode()).count(json.dumps(said)) == 1
    back = urlsplit(github.apps.create(target, json.dumps(said), "octo"))
    response = as_alice.get(f"{back.path}?{back.query}", follow=True)
    assert response.redirect_chain == [("/settings/#github", 302)]
    assert "Now install it where it is to work." in text(response)
    made, app = github.apps.all[0], GitHubApp.objects.get()
    assert (app.app_id, app.slug, app.client_id, app.made_by) == (made.id, made.slug, made.client_id, alice)
    assert (app.owner, app.is_of_organization) == (organization or "octo", bool(organization))
    assert (app.client_secret, app.webhook_secret, app.private_key) == (made.client_secret, made.webhook_secret, made.pem)
    stored = [bytes(app.client_secret_encrypted), bytes(app.webhook_secret_encrypted), bytes(app.private_key_encrypted)]
    entry = AuditEntry.objects.get(kind="github_app_made")
    assert (entry.username, entry.detail) == ("alice", {"app": app.html_url, "owner": app.owner})
    shown = response.content.decode() + caplog.text + repr(app) + str(app)
    for secret in (made.client_secret, made.webhook_secret or "", made.pem.splitlines()[3]):
        assert secret not in shown
        assert not any(secret.encode() in one for one in stored)


def test_the_manifest_asks_for_what_is_needed_and_no_more(github: GitHubServer, as_alice: Client) -> None:
    _, said = to_github(begin(as_alice))
    assert said["url"] == ADDRESS
    assert said["hook_attributes"] == {"url": f"{ADDRESS}/github/webhook", "active": True}
    assert (said["redirect_url"], said["setup_url"]) == (ADDRESS + MADE, f"{ADDRESS}/settings/")
    assert said["callback_urls"] == [f"{ADDRESS}/accounts/github/login/callback/"]
    assert (said["public"], said["request_oauth_on_install"]) == (False, False)
    assert said["default_permissions"] == {
        "contents": "write",
        "pull_requests": "write",
        "issues": "write",
        "workflows": "write",
        "checks": "read",
        "statuses": "read",
        "actions": "read",
        "metadata": "read",
        "members": "read",
    }
    assert {"pull_request", "check_run", "issue_comment", "issues", "pull_request_review_comment"} < set(said["default_events"])
    assert not {"installation", "installation_repositories"} & set(said["default_events"])  # GitHub takes no manifest with these


def test_on_a_machine_that_github_cannot_reach_the_app_has_no_webhook_and_the_page_says_so(
    github: GitHubServer, as_alice: Client, settings: Settings
) -> None:
    assert "so no webhooks will come" not in text(begin(as_alice))
    settings.PUBLIC_URL = "http://localhost:8000"
    page = begin(as_alice)
    assert "GitHub cannot reach http://localhost:8000, so no webhooks will come" in text(page)
    target, said = to_github(page)
    assert not {"hook_attributes", "default_events"} & said.keys()
    github.add_user("octo")
    back = urlsplit(github.apps.create(target, json.dumps(said), "octo"))
    as_alice.get(f"{back.path}?{back.query}")
    assert GitHubApp.objects.get().webhook_secret == ""


def test_what_comes_back_with_another_state_or_in_another_browser_makes_nothing(github: GitHubServer, as_alice: Client) -> None:
    github.add_user("octo")
    back = create(as_alice, github)
    other = Client()
    other.force_login(User.objects.get(username="alice"))
    for client, path in ((other, back), (as_alice, back[:-1] + ("a" if back[-1] != "a" else "b")), (as_alice, back)):  # the last: used up
        assert "This was begun in another browser" in text(client.get(path, follow=True))
    assert not GitHubApp.objects.exists()
    assert not [one for one in github.seen if "conversions" in one.path]


def test_a_code_is_good_once(github: GitHubServer, as_alice: Client) -> None:
    github.add_user("octo")
    code = parse_qs(urlsplit(create(as_alice, github)).query)["code"][0]
    as_alice.get(MADE, {"code": code, "state": as_alice.session["github_app_state"][0]})
    GitHubApp.objects.all().delete()
    begin(as_alice)
    again = as_alice.get(MADE, {"code": code, "state": as_alice.session["github_app_state"][0]}, follow=True)
    assert "it was used before, or is older than an hour" in text(again)
    assert not GitHubApp.objects.exists()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({"status": 503}, "GitHub has trouble at the moment"),
        ({"drops": True}, "GitHub cannot be reached"),
        ({"status": 201, "body": {"id": 1}}, "GitHub says nothing of the new app that makes sense."),
    ],
)
def test_when_github_is_down_nothing_is_kept_and_it_is_said(
    github: GitHubServer, as_alice: Client, trouble: dict[str, Any], said: str
) -> None:
    github.add_user("octo")
    back = create(as_alice, github)
    github.fault("/conversions$", **trouble)
    assert said in text(as_alice.get(back, follow=True))
    assert not GitHubApp.objects.exists()


def test_only_operators_make_and_forget_it(github: GitHubServer, as_bob: Client) -> None:
    assert "Create a GitHub App" not in text(as_bob.get("/settings/"))
    assert begin(as_bob).status_code == as_bob.get(MADE).status_code == as_bob.post(FORGET).status_code == 404


@pytest.mark.parametrize("organization", ["../x", "acme?x=1", "-", "a b"])
def test_an_organization_that_can_be_none_is_refused_where_it_was_typed(github: GitHubServer, as_alice: Client, organization: str) -> None:
    response = begin(as_alice, organization)
    assert response.status_code == 422
    assert "This is no name of an organization at GitHub." in text(response)


def test_there_is_one_app(github: GitHubServer, as_alice: Client) -> None:
    known(github.apps.add("octo", manifest()), github)
    response = begin(as_alice)
    assert response.status_code == 422
    assert "Forget it first." in text(response)


def test_an_app_of_another_github_is_none_here(github: GitHubServer, as_alice: Client, settings: Settings) -> None:
    known(github.apps.add("octo", manifest()), github)
    settings.GITHUB_URL = "https://github.com"
    assert "No GitHub App" in text(as_alice.get("/settings/"))
    assert as_alice.post("/accounts/github/login/").status_code == 404  # its secret goes nowhere else


# --- forgetting it, and where it is -----------------------------------------------------------------------------------------


def test_forgetting_says_what_stops_and_where_it_is_deleted_at_github(github: GitHubServer, as_alice: Client) -> None:
    app = known(github.apps.add("acme", manifest()), github)
    GitHubApp.objects.update(is_of_organization=True)
    page = text(as_alice.get(FORGET))
    assert "nobody can sign in with GitHub" in page
    assert f'href="{github.url}/organizations/acme/settings/apps/{app.slug}/advanced"' in page
    assert as_alice.post(FORGET).headers["Location"] == "/settings/#github"
    as_alice.post(FORGET)  # when there is none any more
    assert not GitHubApp.objects.exists()
    assert list(AuditEntry.objects.values_list("kind", "username")) == [("github_app_forgotten", "alice")]


def test_everybody_sees_where_it_is_installed_of_what_concerns_them(github: GitHubServer, as_bob: Client, bob: User) -> None:
    app = github.apps.add("octo", manifest())
    known(app, github)
    github.apps.install(app, "Octo", ("Octo/demo",))
    github.apps.install(app, "secret-org")
    GitHubAccount.objects.create(user=bob, github_id=7, login="octo")
    Repo.objects.create(owner=bob, source=f"{github.url}/acme/tool", name="tool")
    assert "Where it is installed" in text(as_bob.get("/settings/"))
    page = text(as_bob.get(BEGIN, headers={"HX-Request": "true"}))
    assert "secret-org" not in page
    assert '<b>octo</b> <span class="quiet">some repositories</span>' in page
    assert '<b>acme</b> <span class="quiet">not installed</span>' in page
    assert f'href="{github.url}/github-apps/{app.slug}/installations/new"' in page
    github.apps.delete(app)
    GitHubApp.objects.update(app_id=99)  # nothing of it is remembered
    assert "GitHub does not take the GitHub App" in text(as_bob.get(BEGIN))


# --- signing in by it ---------------------------------------------------------------------------------------------------------


def test_people_sign_in_by_the_app_and_are_connected_with_it(github: GitHubServer, settings: Settings, caplog: Any) -> None:
    settings.GITHUB_ALLOWED_USERS = frozenset({"octo"})
    settings.PUBLIC_URL = "http://testserver"
    app = github.apps.add("octo", manifest("http://testserver"))
    known(app, github)
    github.add_user("octo")
    client = Client()
    assert "GitHub" in text(client.get("/sign-in/"))
    parts = urlsplit(github.authorize(client.post("/accounts/github/login/").headers["Location"], "octo"))
    response = client.get(f"{parts.path}?{parts.query}", follow=True)
    assert response.status_code == 200
    account = GitHubAccount.objects.get()
    assert account.token.startswith("ghu_")
    assert account.refresh_token.startswith("ghr_")
    assert account.refresh_token.encode() not in bytes(account.refresh_token_encrypted)
    assert (account.client_id, account.scopes) == (app.client_id, [])
    assert account.expires_at is not None
    assert account.refresh_expires_at is not None
    page = client.get("/settings/").content.decode()
    assert "It reaches what the GitHub App is installed on." in page
    assert "renewed by itself" in page
    for secret in (account.token, account.refresh_token, app.client_secret):
        assert secret not in page + caplog.text
