import re
import socket
import threading
import time

import pytest

from tasks.errors import RepoUnavailable, SourceRefused
from tasks.git import mirrors
from tasks.git.commands import GitFailed, GitTimedOut, clean, explain
from tasks.git.remotes import default_branch
from tasks.git.sources import Source, parse_source

TIMEOUT = 20


def answer(status, **headers):
    def rule(handler, _):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return rule


def test_a_repository_is_mirrored_over_http(origin, mirror, server):
    source = server.source("shop/.git")
    assert default_branch(source, timeout=TIMEOUT) == "main"
    mirrors.ensure(mirror, source, timeout=TIMEOUT)
    commit = origin.commit("second")
    mirrors.fetch(mirror, source, branch="main", timeout=TIMEOUT)
    assert mirrors.resolve(mirror, "main") == commit


def test_a_vanished_remote_is_said_and_leaves_the_mirror_alone(origin, mirror, server, tmp_path):
    source = server.source("shop/.git")
    mirrors.ensure(mirror, source, timeout=TIMEOUT)
    origin.folder.rename(tmp_path / "moved")
    with pytest.raises(RepoUnavailable, match=r"127\.0\.0\.1 has no such repository"):
        mirrors.fetch(mirror, source, branch="main", timeout=TIMEOUT)
    with pytest.raises(RepoUnavailable, match=r"shop is no git repository any more"):
        mirrors.fetch(mirror, Source(url=str(origin.folder), name="shop", is_local=True), branch="main", timeout=TIMEOUT)
    assert mirrors.branches(mirror) == ["main"]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "asks for a sign-in"),
        (403, "refuses access"),
        (404, "no such repository"),
        (429, "too many requests"),
        (503, "error of its own"),
    ],
)
def test_each_http_failure_has_its_sentence(server, status, says):
    server.rules["/shop/"] = answer(status, WWW_Authenticate='Basic realm="x"')
    with pytest.raises(RepoUnavailable, match=says):
        default_branch(server.source("shop/.git"), timeout=TIMEOUT)


def test_a_host_that_refuses_connections_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    source = parse_source(f"http://127.0.0.1:{port}/a/b", allow_local=False, allow_private=frozenset({"127.0.0.1"}))
    with pytest.raises(RepoUnavailable, match="cannot be reached"):
        default_branch(source, timeout=TIMEOUT)


def test_an_untrusted_certificate_is_said(server):
    with pytest.raises(RepoUnavailable, match="secure connection"):  # plain http where TLS is expected
        source = server.source("shop/.git")
        default_branch(
            Source(url=source.url.replace("http:", "https:"), name="x", host=source.host, port=source.port, is_private_host=True),
            timeout=TIMEOUT,
        )


def test_a_redirect_to_a_private_address_is_not_followed_but_named(origin, server):
    private = type(server)(server.root)
    threading.Thread(target=private.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        server.rules["/moved/"] = answer(301, Location=f"http://user:secret@{private.address}/shop/.git/info/refs?service=git-upload-pack")
        with pytest.raises(RepoUnavailable, match=rf"redirects to http://\*\*\*@{re.escape(private.address)}/shop/\.git\. If"):
            default_branch(server.source("moved/.git"), timeout=TIMEOUT)
        assert private.requests == []
    finally:
        private.shutdown()
        private.server_close()


def test_a_redirect_in_the_middle_is_not_followed(origin, mirror, server):
    server.rules["/shop/.git/git-upload-pack"] = answer(307, Location="http://127.0.0.1:1/secret")
    with pytest.raises(RepoUnavailable, match="redirects to"):
        mirrors.ensure(mirror, server.source("shop/.git"), timeout=TIMEOUT)


def test_a_slow_server_is_given_up_and_its_git_killed(origin, mirror, server, wait_for):
    gone, stopped = threading.Event(), threading.Event()

    def hang(handler, _):
        handler.connection.settimeout(20)
        stopped.set() if handler.connection.recv(1) == b"" else None  # ends when the client's process is dead
        gone.set()
        return True

    server.rules["/shop/"] = hang
    started = time.monotonic()
    with pytest.raises(GitTimedOut, match="took too long"):
        default_branch(server.source("shop/.git"), timeout=0.5)
    assert time.monotonic() - started < 5
    assert stopped.wait(10)


def test_git_connects_to_the_address_that_was_checked(origin, server):
    calls = []

    def resolver(host, port, **_):
        calls.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    source = server.source("shop/.git", host="rebinding.example")
    assert default_branch(source, timeout=TIMEOUT, resolver=resolver) == "main"
    assert calls == ["rebinding.example"]
    assert server.requests[0].startswith(f"rebinding.example:{server.server_port}/")


def test_a_name_that_turns_private_after_the_first_fetch_is_refused(origin, mirror, server):
    allowed = server.source("shop/.git", host="rebinding.example")

    def private(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    mirrors.ensure(mirror, allowed, timeout=TIMEOUT, resolver=private)
    before = len(server.requests)
    plain = parse_source(f"https://rebinding.example:{server.server_port}/shop/.git", allow_local=False)
    with pytest.raises(SourceRefused, match="resolves to a private"):
        mirrors.fetch(mirror, plain, branch="main", timeout=TIMEOUT, resolver=private)
    assert len(server.requests) == before


def test_a_servers_own_words_are_not_taken_for_gits():
    assert "disk" not in explain("remote: No space left on device\nfatal: the remote end hung up unexpectedly", "x.org")
    assert "broke in the middle" in explain("remote: No space left on device\nfatal: the remote end hung up unexpectedly", "x.org")


def test_credentials_and_control_characters_never_reach_an_error():
    text = clean(b"fatal: unable to access 'https://bob:hunter2@example.org/a': \x1b[31mbad\x00\rremote: x")
    assert text == "fatal: unable to access 'https://***@example.org/a': [31mbad\nremote: x"
    error = GitFailed("fatal: something new", "example.org")
    assert error.message == "git could not read example.org: something new"


def test_a_dumb_servers_alternates_lead_nowhere(origin, mirror, server):
    origin.git("update-server-info")
    blob = next(p for p in origin.folder.glob(".git/objects/??/*"))
    blob.unlink()
    (origin.folder / ".git/objects/info").mkdir(exist_ok=True)
    (origin.folder / ".git/objects/info/http-alternates").write_text("http://127.0.0.1:1/secret/objects/\n")
    server.rules["/shop/.git/info/refs"] = lambda handler, _: _serve(handler, (origin.folder / ".git/info/refs").read_bytes())
    with pytest.raises(RepoUnavailable):
        mirrors.ensure(mirror, server.source("shop/.git"), timeout=TIMEOUT)


def _serve(handler, content):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/plain")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
    return True
