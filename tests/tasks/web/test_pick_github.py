"""What the pickers offer from GitHub: what the user can push to, quickly, and one line where GitHub says no."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tasks.models import GitHubAccount, Repo, Task, User
from tests.github.server import GitHubServer, github_server

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("owner")
        server.add_user("bob-gh", "ghp_bob")
        server.add_repo("bob-gh/shop")
        server.push("bob-gh/shop", "feature/cart", {"a": "a"})
        server.add_repo("owner/vault", private=True, permissions={"bob-gh": "push"})
        server.add_repo("owner/library", permissions={"bob-gh": "pull"})
        yield server


@pytest.fixture(autouse=True)
def _there(server: GitHubServer, settings: Settings) -> None:
    server.forget()
    server.add_token("bob-gh", "ghp_bob")
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    settings.GITHUB_URL, settings.GITHUB_API_URL, settings.GITHUB_TOKEN = server.url, server.api_url, ""
    settings.ALLOW_PRIVATE_HOSTS = frozenset({server.url.removeprefix("http://")})


@pytest.fixture
def account(bob: User, server: GitHubServer) -> GitHubAccount:
    account = GitHubAccount(user=bob, github_id=server.world.people["bob-gh"].id, login="bob-gh", scopes=["repo"])
    account.token = "ghp_bob"
    account.save()
    return account


def page(client: Client, address: str, **query: object) -> str:
    return " ".join(client.get(address, query).content.decode().split())


def offered(client: Client, **query: object) -> list[str]:
    return sorted(re.findall(r'data-name="([^"]*)"', page(client, "/pick/github", **query)))


def asked(server: GitHubServer) -> list[str]:
    return [request.path for request in server.front.seen]


def test_it_offers_what_one_can_push_to_and_does_not_have_yet(
    as_bob: Client, bob: User, account: GitHubAccount, server: GitHubServer
) -> None:
    assert offered(as_bob) == ["bob-gh/shop", "owner/vault"]
    assert f'data-source="{server.url}/owner/vault"' in page(as_bob, "/pick/github")
    assert offered(as_bob, q="VAU own") == ["owner/vault"]
    Repo.objects.create(owner=bob, source=f"{server.url}/Owner/Vault.git", name="Owner/Vault")
    assert offered(as_bob) == ["bob-gh/shop"]
    assert "nothing else there with “library”" in page(as_bob, "/pick/github", q="library")


def test_typing_asks_github_once_a_minute(as_bob: Client, account: GitHubAccount, server: GitHubServer) -> None:
    for q in ("", "s", "sh", "sho", "shop"):
        assert "bob-gh/shop" in offered(as_bob, q=q)
    assert asked(server) == ["/user/repos"]


def test_of_many_there_are_more(as_bob: Client, account: GitHubAccount, server: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.github_api.client.PER_PAGE", 1)
    first = page(as_bob, "/pick/github")
    assert "Show more" in first
    assert 'hx-get="/pick/github?q=&amp;page=2"' in first
    second = page(as_bob, "/pick/github", page=2)
    assert 'class="at-github"' not in second
    assert {"bob-gh/shop", "owner/vault"} <= {*re.findall(r'data-name="([^"]*)"', first + second + page(as_bob, "/pick/github", page=3))}


def test_the_page_of_repositories_adds_what_is_chosen(as_bob: Client, bob: User, account: GitHubAccount, server: GitHubServer) -> None:
    found = page(as_bob, "/pick/github", add="", q="vault")
    address = re.search(r'name="source" value="([^"]*)"', found)
    assert address
    assert as_bob.post("/repos/", {"q": "vault", "source": address[1]}).status_code == 302
    assert Repo.objects.get(owner=bob).name == "owner/vault"


def test_choosing_one_adds_it_with_the_task(as_bob: Client, bob: User, server: GitHubServer) -> None:
    as_bob.post("/tasks/new", {"prompt": "true", "source": f"{server.url}/bob-gh/shop", "runs-shell": "1"})
    assert Task.objects.get(owner=bob).repo.name == "bob-gh/shop"


def test_who_is_not_connected_is_told_where_to_and_others_repositories_are_theirs(
    as_alice: Client, as_bob: Client, account: GitHubAccount, settings: Settings
) -> None:
    settings.GITHUB_TOKEN = "ghp_bob"
    assert offered(as_alice) == ["bob-gh/shop", "owner/vault"]  # an operator
    account.delete()
    found = page(as_bob, "/pick/github")
    assert offered(as_bob) == []
    assert "GitHub is not connected" in found
    assert '<a href="/settings/#github">' in found


def test_what_github_refuses_is_a_line_in_the_list(as_bob: Client, account: GitHubAccount, server: GitHubServer) -> None:
    server.limit()
    for _ in range(2):
        assert "It answers again at" in page(as_bob, "/pick/github")
    assert len(asked(server)) == 1


def test_a_token_that_was_taken_back_asks_to_connect_again(as_bob: Client, account: GitHubAccount, server: GitHubServer) -> None:
    server.revoke("ghp_bob")
    found = page(as_bob, "/pick/github")
    assert "GitHub does not take the token any more" in found
    assert '<a href="/settings/#github">' in found
    account.refresh_from_db()
    assert account.refused_at


def test_branches_of_what_has_no_copy_yet_or_an_old_one_come_from_github(
    as_bob: Client, bob: User, account: GitHubAccount, server: GitHubServer
) -> None:
    source = f"{server.url}/bob-gh/shop"
    repo = Repo.objects.create(owner=bob, source=source, name="bob-gh/shop", default_branch="main", mirrored_at=timezone.now())
    for query in ({"source": source}, {"repo": repo.pk}):
        assert 'data-name="feature/cart"' in page(as_bob, "/pick/branches", **query)
        assert 'data-name="main"' not in page(as_bob, "/pick/branches", q="cart", **query)
    assert "your GitHub account may not see it" in page(as_bob, "/pick/branches", source=f"{server.url}/owner/nothing")


def test_who_may_only_read_is_told_before_there_is_anything_to_push(as_bob: Client, account: GitHubAccount, server: GitHubServer) -> None:
    for _ in range(2):
        assert "a pull request will need write access" in page(as_bob, "/pick/access", source=f"{server.url}/owner/library")
    assert asked(server) == ["/repos/owner/library"]
    assert page(as_bob, "/pick/access", source=f"{server.url}/owner/vault") == ""
    assert page(as_bob, "/pick/access", source="https://example.org/a/b") == ""
    assert page(as_bob, "/pick/access") == ""
    server.limit()
    assert page(as_bob, "/pick/access", source=f"{server.url}/bob-gh/shop") == ""  # nobody knows now


def test_without_a_cache_it_works_more_slowly(as_bob: Client, account: GitHubAccount, settings: Settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:9"}}
    assert offered(as_bob) == ["bob-gh/shop", "owner/vault"]
