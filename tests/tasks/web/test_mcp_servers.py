"""The servers of the Model Context Protocol on the page of a repository."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from tasks.models import Repo, RepoMcpServer, Task

pytestmark = pytest.mark.django_db
PART = {"HX-Request": "true", "HX-Target": "mcp-servers"}


@pytest.fixture
def repo(make_task: Callable[..., Task]) -> Repo:
    return make_task().repo


@pytest.fixture
def address(repo: Repo) -> str:
    return f"/repos/{repo.pk}/mcp-servers"


def test_without_servers_the_page_says_what_they_are_for(as_alice: Client, repo: Repo) -> None:
    page = as_alice.get(f"/repos/{repo.pk}/").content.decode()
    assert "gives agents more tools" in page
    assert "Secrets do not belong here" in page


def test_a_server_is_added_and_the_browser_goes_back_to_the_list(as_alice: Client, repo: Repo, address: str) -> None:
    sent = {"kind": "command", "name": "local", "url": "left over", "command": "serve 'two words'", "env": "LEVEL=1"}
    response = as_alice.post(address, sent)
    assert response["Location"] == f"/repos/{repo.pk}/#mcp-servers"
    server = repo.mcp_servers.get()
    assert (server.url, server.command, server.env) == ("", ["serve", "two words"], {"LEVEL": "1"})
    page = as_alice.get(f"/repos/{repo.pk}/").content.decode()
    assert "serve &#x27;two words&#x27;" in page
    assert "with LEVEL" in page


def test_in_place_the_section_comes_back(as_alice: Client, repo: Repo, address: str) -> None:
    response = as_alice.post(address, {"kind": "url", "name": "docs", "url": "https://docs.example/mcp"}, headers=PART)
    page = response.content.decode()
    assert page.lstrip().startswith("<section")
    assert "docs is set." in page
    assert "Change docs" in page


@pytest.mark.parametrize(
    ("sent", "field", "said"),
    [
        ({"name": "", "url": "https://docs.example"}, "name", "Give the server a name."),
        ({"name": "Docs", "url": "https://docs.example"}, "name", "small letters"),
        ({"name": "docs", "url": ""}, "url", "Give the server&#x27;s URL."),
        ({"name": "docs", "url": "http://docs.example"}, "url", "begins with https"),
        ({"name": "docs", "kind": "command", "url": "https://docs.example"}, "command", "Give the command"),
        ({"name": "docs", "kind": "command", "command": "it's"}, "command", "quote is not closed"),
        ({"name": "docs", "kind": "command", "command": "serve", "env": "A=1\nwrong\nworse"}, "env", "Line 3: This is no assignment"),
    ],
)
def test_what_is_wrong_is_said_beside_it_and_what_was_typed_stays(
    as_alice: Client, address: str, sent: dict[str, str], field: str, said: str
) -> None:
    response = as_alice.post(address, sent)
    assert response.status_code == 422
    form = response.context["mcp_form"]
    assert list(form.errors) == [field]
    assert all(form[name].value() == value for name, value in sent.items())
    assert said in response.content.decode()
    assert not RepoMcpServer.objects.exists()


def test_a_server_is_changed_in_its_row(as_alice: Client, repo: Repo, address: str) -> None:
    repo.mcp_servers.create(name="local", command=["serve", "two words"], env={"LEVEL": "a b"})
    form = as_alice.get(f"/repos/{repo.pk}/?server=local").context["mcp_change_form"]
    assert (form["kind"].value(), form["command"].value(), form["env"].value()) == ("command", "serve 'two words'", "LEVEL='a b'")

    changed = {"changes": "1", "name": "local", "kind": "command", "command": ""}
    response = as_alice.post(address, changed)
    assert response.status_code == 422
    assert response.context["mcp_change_form"].errors
    assert not response.context["mcp_form"].errors
    ids = [part.split('"')[0] for part in response.content.decode().split(' id="')[1:]]
    assert len(ids) == len(set(ids))

    as_alice.post(address, changed | {"command": "serve again"})
    assert repo.mcp_servers.get().command == ["serve", "again"]


def test_removing_asks_first(as_alice: Client, repo: Repo, address: str) -> None:
    repo.mcp_servers.create(name="docs", url="https://docs.example")
    assert "Remove docs?" in as_alice.get(f"{address}/docs/remove").content.decode()
    assert repo.mcp_servers.exists()
    assert as_alice.post(f"{address}/docs/remove").status_code == 302
    assert not repo.mcp_servers.exists()


def test_a_host_that_sandboxes_do_not_reach_is_said_and_allowed_by_a_click_only(as_alice: Client, repo: Repo, address: str) -> None:
    as_alice.post(address, {"name": "docs", "url": "https://docs.example/mcp"})
    page = as_alice.get(f"/repos/{repo.pk}/").content.decode()
    assert "docs.example is not on this repository&#x27;s network" in page or "docs.example is not on this repository's network" in page
    assert "Allow docs.example" in page
    repo.refresh_from_db()
    assert repo.network_hosts == []

    response = as_alice.post(f"{address}/docs/allow", headers=PART)
    assert "host-allowed" in response["HX-Trigger"]
    assert "Allow docs.example" not in response.content.decode()
    repo.refresh_from_db()
    assert repo.network_hosts == ["docs.example"]


def test_nothing_is_allowed_by_looking_at_an_address(as_alice: Client, repo: Repo, address: str) -> None:
    repo.mcp_servers.create(name="docs", url="https://docs.example")
    assert as_alice.get(f"{address}/docs/allow").status_code == 405
    assert as_alice.get(address).status_code == 405


def test_what_cannot_be_allowed_has_no_button(as_alice: Client, repo: Repo) -> None:
    repo.mcp_servers.create(name="docs", url="https://1.1.1.1/mcp")
    page = as_alice.get(f"/repos/{repo.pk}/").content.decode()
    assert "Use the host" in page
    assert "Allow 1.1.1.1" not in page


def test_servers_say_anew_what_they_lack_when_the_network_is_saved(as_alice: Client, repo: Repo) -> None:
    server = repo.mcp_servers.create(name="docs", url="https://docs.example")
    response = as_alice.post(f"/repos/{repo.pk}/", {"network_preset": "public"}, headers={"HX-Request": "true"})
    page = response.content.decode()
    assert f'id="mcp-reach-{server.pk}"' in page
    assert "Allow docs.example" not in page


def test_what_a_server_is_called_is_shown_as_text(as_alice: Client, repo: Repo, address: str) -> None:
    as_alice.post(address, {"kind": "command", "name": "odd", "command": "serve '<script>alert(1)</script>' \u202e"})
    page = as_alice.get(f"/repos/{repo.pk}/").content.decode()
    assert "<script>alert" not in page


def test_somebody_elses_are_not_there(as_bob: Client, repo: Repo, address: str) -> None:
    repo.mcp_servers.create(name="docs", url="https://docs.example")
    assert as_bob.post(address, {"name": "x", "url": "https://x.example"}).status_code == 404
    assert as_bob.get(f"{address}/docs/remove").status_code == 404
    assert as_bob.post(f"{address}/docs/remove").status_code == 404
    assert as_bob.post(f"{address}/docs/allow").status_code == 404
    assert repo.mcp_servers.count() == 1
