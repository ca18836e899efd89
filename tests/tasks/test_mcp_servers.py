"""What a repository's servers of the Model Context Protocol may be, and whether its network reaches them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone
from pytest_django import Settings

from tasks import environment, mcp_servers
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import Credential, Repo, RepoMcpServer, Run, Sandbox, User
from tasks.running import specs

pytestmark = pytest.mark.django_db


@pytest.fixture
def repo(alice: User) -> Repo:
    return Repo.objects.create(owner=alice, source="https://example.org/repo", name="repo")


def at(repo: Repo, url: str, name: str = "docs") -> RepoMcpServer:
    return mcp_servers.set_mcp_server(by=repo.owner, repo=repo, name=name, url=url)


def by(repo: Repo, command: str, env: str = "", name: str = "docs") -> RepoMcpServer:
    return mcp_servers.set_mcp_server(by=repo.owner, repo=repo, name=name, command=command, env=env)


def test_a_command_is_split_as_a_shell_does_and_shown_so_that_it_gives_the_same_again(repo: Repo) -> None:
    server = by(repo, "npx  -y server --title 'two words' \"it's\" --empty ''")
    assert server.command == ["npx", "-y", "server", "--title", "two words", "it's", "--empty", ""]
    assert by(repo, mcp_servers.command_line(server.command)).command == server.command


def test_variables_are_lines_of_an_env_file_and_give_the_same_again(repo: Repo) -> None:
    text = '# what it needs\nLEVEL=info\nTITLE=\'two words\'\nBOTH="it\'s \\"so\\" $HOME \\\\ #"\nLINES="a\nb"\nEMPTY='
    server = by(repo, "serve", text)
    assert server.env == {"LEVEL": "info", "TITLE": "two words", "BOTH": 'it\'s "so" $HOME \\ #', "LINES": "a\nb", "EMPTY": ""}
    assert by(repo, "serve", mcp_servers.env_lines(server.env)).env == server.env


def test_setting_a_server_again_replaces_it(repo: Repo) -> None:
    by(repo, "serve", "A=1")
    at(repo, "https://docs.example/mcp")
    server = RepoMcpServer.objects.get()
    assert (server.url, server.command, server.env) == ("https://docs.example/mcp", [], {})


@pytest.mark.parametrize("name", ["", "Docs", "two words", "a.b", "é", "x" * 61, "a/b", "a\nb"])
def test_names_that_cannot_be_are_refused(repo: Repo, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        at(repo, "https://docs.example/mcp", name=name)
    assert refused.value.field == "name"


@pytest.mark.parametrize(
    "url",
    [
        *("docs.example/mcp", "http://docs.example/mcp", "ftp://docs.example", "https://", "https:///mcp", "https://[::1", "javascript:x"),
        *("https://me@docs.example/mcp", "https://me:secret@docs.example/", "https://@docs.example/", "https://docs.example/mcp#part"),
        *("https://localhost/mcp", "https://a.localhost", "https://127.0.0.1/mcp", "https://[::1]/", "https://10.0.0.1", "https://0x7f.1"),
        *("https://docs.example:99999/", "https://docs.example:x/", "https://docs .example/", "https://docs.example/\x01", "https://a..b/"),
        "https://docs.example/" + "x" * 1000,
    ],
)
def test_urls_that_cannot_be_are_refused(repo: Repo, url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        at(repo, url)
    assert refused.value.field == "url"


def test_an_operator_can_allow_private_and_plain_ones(repo: Repo, settings: Settings) -> None:
    settings.ALLOW_PRIVATE_HOSTS = frozenset({"10.0.0.5:8000", "intern.example"})
    assert at(repo, "http://10.0.0.5:8000/mcp").url
    assert at(repo, "http://intern.example/mcp").url
    with pytest.raises(InvalidInput):
        at(repo, "http://10.0.0.5:8001/mcp")


@pytest.mark.parametrize("command", ["it's", "a\nb", "a\0b", "''", "a \\", "x " * 2001])
def test_commands_that_cannot_be_are_refused(repo: Repo, command: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        by(repo, command)
    assert refused.value.field == "command"


@pytest.mark.parametrize("env", ["A", "1A=1", "A=1\nA=2", "A-B=1", "A='", "A=\0", "A=" + "x" * 32_000])
def test_variables_that_cannot_be_are_refused(repo: Repo, env: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        by(repo, "serve", env)
    assert refused.value.field == "env"


def test_a_server_is_at_a_url_or_a_command_and_only_a_command_has_variables(repo: Repo, alice: User) -> None:
    for given in ({}, {"url": "https://docs.example", "command": "serve"}, {"url": "https://docs.example", "env": "A=1"}):
        with pytest.raises(InvalidInput):
            mcp_servers.set_mcp_server(by=alice, repo=repo, name="docs", **given)


def test_a_repository_has_so_many_and_no_more(repo: Repo) -> None:
    for number in range(mcp_servers.MOST_SERVERS):
        by(repo, "serve", name=f"s{number}")
    with pytest.raises(Conflict, match="at most 20"):
        by(repo, "serve", name="more")
    by(repo, "serve again", name="s0")


def test_only_its_owner_may(repo: Repo, bob: User) -> None:
    at(repo, "https://docs.example")
    with pytest.raises(NotAllowed):
        mcp_servers.set_mcp_server(by=bob, repo=repo, name="docs", command="serve")
    with pytest.raises(NotAllowed):
        mcp_servers.remove_mcp_server(by=bob, repo=repo, name="docs")
    with pytest.raises(NotAllowed):
        mcp_servers.allow_mcp_server(by=bob, repo=repo, name="docs")


def test_a_removed_repository_gets_none(repo: Repo, alice: User) -> None:
    at(repo, "https://docs.example")
    repo.removed_at = timezone.now()
    repo.save()
    for verb in (
        lambda: by(repo, "serve"),
        lambda: mcp_servers.remove_mcp_server(by=alice, repo=repo, name="docs"),
        lambda: mcp_servers.allow_mcp_server(by=alice, repo=repo, name="docs"),
    ):
        with pytest.raises(Conflict, match="was removed"):
            verb()


def test_removing_says_whether_there_was_one(repo: Repo, alice: User) -> None:
    by(repo, "serve")
    assert mcp_servers.remove_mcp_server(by=alice, repo=repo, name="docs") is True
    assert mcp_servers.remove_mcp_server(by=alice, repo=repo, name="docs") is False


def test_servers_go_with_their_repository(repo: Repo, alice: User, make_run: Callable[..., Run], make_task: Callable[..., object]) -> None:
    make_run(task=make_task(repo=repo), status="succeeded")  # so its row is kept
    by(repo, "serve")
    environment.remove_repo(repo=repo, by=alice)
    assert not RepoMcpServer.objects.exists()


# --- the network ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Docs.Example/mcp", "docs.example"),
        ("https://docs.example:443/mcp", "docs.example"),
        ("https://docs.example:8443/mcp", "docs.example:8443"),
        ("https://pypi.org/mcp", ""),
        ("https://sub.listed.example/mcp", ""),
    ],
)
def test_a_host_that_the_network_lacks_is_added_when_it_is_asked_for(repo: Repo, alice: User, url: str, host: str) -> None:
    repo.network_hosts = ["*.listed.example"]
    repo.save()
    server = at(repo, url)
    repo.refresh_from_db()
    assert repo.network_hosts == ["*.listed.example"]  # not by itself
    assert mcp_servers.missing_host(repo, server) == host

    mcp_servers.allow_mcp_server(by=alice, repo=repo, name="docs")
    mcp_servers.allow_mcp_server(by=alice, repo=repo, name="docs")
    repo.refresh_from_db()
    assert repo.network_hosts == ["*.listed.example", *([host] if host else [])]
    assert mcp_servers.missing_host(repo, server) == ""


def test_where_all_that_is_public_is_allowed_only_odd_ports_are_not(repo: Repo) -> None:
    repo.network_preset = "public"
    assert mcp_servers.missing_host(repo, at(repo, "https://docs.example/mcp")) == ""
    assert mcp_servers.missing_host(repo, at(repo, "https://docs.example:8443/mcp")) == "docs.example:8443"


def test_what_no_line_of_the_network_lets_through_is_said(repo: Repo, alice: User) -> None:
    server = at(repo, "https://1.1.1.1/mcp")
    assert "Use the host's name" in mcp_servers.unreachable(server)
    with pytest.raises(Conflict, match="Use the host's name"):
        mcp_servers.allow_mcp_server(by=alice, repo=repo, name="docs")


def test_a_command_needs_no_host(repo: Repo, alice: User) -> None:
    assert mcp_servers.missing_host(repo, by(repo, "serve")) == ""
    with pytest.raises(Conflict):
        mcp_servers.allow_mcp_server(by=alice, repo=repo, name="docs")


def test_turns_get_the_servers_of_their_repository(make_run: Callable[..., Run]) -> None:
    run = make_run(agent="claude", model="claude-opus-5-5", sandbox=True)
    key = Credential(owner=run.task.owner, provider="anthropic", checked_at=timezone.now())
    key.secret = "sk-0123456789abcdef"
    key.save()
    by(run.task.repo, "serve 'two words'", "LEVEL=1", name="local")
    at(run.task.repo, "https://docs.example/mcp")
    spec = specs.build(run, run.turns.get(), Sandbox.objects.get(run=run), restores_patch=False)
    told = " ".join(spec.steps[-1].files.values())
    for words in ("https://docs.example/mcp", '"two words"', '"LEVEL": "1"'):
        assert words in told
