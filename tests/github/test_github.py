"""What the GitHub of the tests promises to be like."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from tests.github.server import GitHubServer, github_server

SHOP = "alice/shop"
_ENV = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
_WHO = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
Git = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("alice", "ghp_alice")
        server.add_user("bob", "ghp_bob")
        server.add_repo(SHOP, {"a.txt": "a\n"}, private=True, permissions={"bob": "pull"})
        yield server


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Runs git in a folder of the test's own, with a token that no argument holds."""

    def run(*argv: str, token: str = "ghp_alice", cwd: str = ".") -> subprocess.CompletedProcess[str]:
        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        config = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader", "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}"}
        return subprocess.run(["git", *_WHO, *argv], cwd=tmp_path / cwd, env=_ENV | config, capture_output=True, text=True)

    return run


def clone_and_commit(git: Git, server: GitHubServer, path: str = "b.txt", content: str = "b\n") -> Path:
    assert git("clone", "--quiet", f"{server.url}/{SHOP}.git", "clone").returncode == 0
    file = Path(git("rev-parse", "--show-toplevel", cwd="clone").stdout.strip(), path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    git("checkout", "--quiet", "-b", "feature", cwd="clone")
    git("add", "--all", cwd="clone")
    assert git("commit", "--quiet", "--message", "b", cwd="clone").returncode == 0
    return file


def test_a_pushed_branch_is_there_for_the_api_with_its_own_sha(server: GitHubServer, git: Git) -> None:
    clone_and_commit(git, server)
    assert git("push", "--quiet", "origin", "feature", cwd="clone").returncode == 0
    head = git("rev-parse", "HEAD", cwd="clone").stdout.strip()
    assert server.branches(SHOP)["feature"] == head
    assert server.as_user("alice", "GET", f"/repos/{SHOP}/branches/feature")["commit"]["sha"] == head
    assert server.read(SHOP, "feature", "b.txt") == "b\n"


def test_a_large_push_comes_in_pieces(server: GitHubServer, git: Git) -> None:
    file = clone_and_commit(git, server)
    file.with_name("big.bin").write_bytes(os.urandom(3_000_000))
    git("add", "--all", cwd="clone")
    git("commit", "--quiet", "--message", "big", cwd="clone")
    assert git("push", "--quiet", "origin", "feature", cwd="clone").returncode == 0
    assert any(request.headers.get("transfer-encoding") == "chunked" for request in server.seen)


@pytest.mark.parametrize(
    ("token", "words"),
    [("ghp_bob", "Permission to alice/shop.git denied to bob"), ("ghp_no", "could not read Username"), ("ghp_eve", "not found")],
)
def test_who_may_not_push_is_told_so(server: GitHubServer, git: Git, token: str, words: str) -> None:
    server.add_user("eve", "ghp_eve")
    clone_and_commit(git, server)
    refused = git("push", "origin", "feature", token=token, cwd="clone")
    assert refused.returncode != 0
    assert words in refused.stderr
    assert "feature" not in server.branches(SHOP)


def test_archived_and_protected_take_no_pushes(server: GitHubServer, git: Git) -> None:
    clone_and_commit(git, server)
    server.protect(SHOP, "feature")
    assert "GH006: Protected branch update failed" in git("push", "origin", "feature", cwd="clone").stderr
    server.archive(SHOP)
    assert "archived so it is read-only" in git("push", "origin", "feature:other", cwd="clone").stderr


def test_workflow_files_need_the_scope(server: GitHubServer, git: Git) -> None:
    clone_and_commit(git, server, ".github/workflows/ci.yml", "on: push\n")
    server.add_token("alice", "ghp_repo", ("repo",))
    refused = git("push", "origin", "feature", token="ghp_repo", cwd="clone")
    assert "without `workflow` scope" in refused.stderr
    assert git("push", "--quiet", "origin", "feature", cwd="clone").returncode == 0


def test_what_is_public_is_read_by_anybody(server: GitHubServer, git: Git) -> None:
    server.add_repo("alice/open")
    plain = subprocess.run(["git", "ls-remote", f"{server.url}/alice/open"], env=_ENV, capture_output=True)
    assert plain.returncode == 0
    assert requests.get(f"{server.api_url}/repos/alice/open").status_code == 200
    assert requests.get(f"{server.api_url}/repos/{SHOP}").status_code == 404


def test_addresses_in_answers_are_its_own(server: GitHubServer) -> None:
    answer = requests.get(f"{server.api_url}/repos/{SHOP}", headers={"Authorization": "Bearer ghp_alice"})
    said = answer.json()
    assert (said["url"], said["html_url"]) == (f"{server.api_url}/repos/{SHOP}", f"{server.url}/{SHOP}")
    assert "emulator.invalid" not in answer.text


def test_a_user_signs_in_by_the_web_flow(server: GitHubServer) -> None:
    server.add_oauth_app("client", "secret", ["http://here/callback"])
    wanted = {"client_id": "client", "redirect_uri": "http://here/callback", "scope": "repo user:email", "state": "s"}
    back = server.authorize(f"{server.url}/login/oauth/authorize?{urlencode(wanted)}", "alice")
    assert back.startswith("http://here/callback?")
    query = parse_qs(urlsplit(back).query)
    assert query["state"] == ["s"]
    body = {"client_id": "client", "client_secret": "secret", "code": query["code"][0]}
    said = requests.post(f"{server.url}/login/oauth/access_token", body, headers={"Accept": "application/json"}).json()
    answer = requests.get(f"{server.api_url}/user", headers={"Authorization": f"Bearer {said['access_token']}"})
    assert answer.json()["login"] == "alice"
    assert answer.headers["X-OAuth-Scopes"] == "repo, user:email"
    again = requests.post(f"{server.url}/login/oauth/access_token", body, headers={"Accept": "application/json"}).json()
    assert again["error"] == "bad_verification_code"


def test_what_happens_is_delivered_signed_and_in_order(server: GitHubServer) -> None:
    got: list[tuple[str, str, bytes]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["X-GitHub-Event"], self.headers["X-Hub-Signature-256"], body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Listener) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.listen(f"http://127.0.0.1:{listener.server_address[1]}/", "hush")
        server.push(SHOP, "feature", {"b.txt": "b\n"})
        number = server.add_pull(SHOP, "feature")
        server.push(SHOP, "feature", {"b.txt": "c\n"})
        server.merge(SHOP, number)
        found = [(one.event, one.payload.get("action")) for one in server.deliveries]
        again = server.deliver(server.deliveries[0].event, server.deliveries[0].payload, id=server.deliveries[0].id)
        listener.shutdown()
        thread.join()
    pulls = [one for one in found if one[0] == "pull_request"]
    assert pulls == [("pull_request", "opened"), ("pull_request", "synchronize"), ("pull_request", "closed")]
    assert [one[0] for one in found].count("push") == 3
    assert (again.status, again.id) == (204, server.deliveries[0].id)
    assert all(signature.startswith("sha256=") and b"emulator.invalid" not in body for _, signature, body in got)
    assert server.url.encode() in got[1][2]
