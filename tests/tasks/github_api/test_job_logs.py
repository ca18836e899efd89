"""The log of a job: its end and what stands around errors, from where it may be read and nowhere else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tasks.github_api import job_logs
from tasks.github_api.client import GitHub
from tasks.github_api.errors import NotFoundOnGitHub, PermissionMissing, Unavailable
from tests.github.server import GitHubServer, github_server

SHOP = "alice/shop"


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("alice", "token-of-alice")
        server.add_repo(SHOP)
        yield server


@pytest.fixture
def github(server: GitHubServer, settings: Settings) -> Iterator[GitHub]:
    server.forget()
    settings.GITHUB_URL, settings.GITHUB_API_URL = server.url, server.api_url
    with GitHub("token-of-alice") as github:
        yield github


def job(server: GitHubServer, log: bytes | str) -> int:
    return server.add_job(SHOP, server.branches(SHOP)["main"], log=log)


def numbers(excerpt: job_logs.Excerpt) -> list[int]:
    return [number for number, _ in excerpt.lines]


def test_a_job_is_known_by_its_check_run_and_has_its_log(server: GitHubServer, github: GitHub) -> None:
    one = job(server, b"begin\nit broke\n")
    other = server.add_check_run(SHOP, server.branches(SHOP)["main"], "lint", conclusion="failure", summary="Too long.")
    found = {check.id: check for check in github.checks(SHOP, server.branches(SHOP)["main"]).failed}
    assert (found[one].is_job, found[other].is_job, found[other].text) == (True, False, "Too long.")
    assert github.job_log(SHOP, one) == job_logs.Excerpt(((1, "begin"), (2, "it broke")), is_whole=True)
    (read,) = [request for request in server.seen if request.path.startswith("/_logs/")]
    assert "authorization" not in read.headers


def test_kept_are_the_end_and_what_stands_around_errors() -> None:
    lines = [b"##[error] it broke" if number == 500 else b"line %d" % number for number in range(1, 2001)]
    found = job_logs.excerpt([b"\n".join(lines)])
    assert numbers(found) == [*range(496, 505), *range(1851, 2001)]
    assert dict(found.lines)[500] == "##[error] it broke"


def test_lines_come_whole_however_the_pieces_are_cut() -> None:
    text = b"one\r\ntwo failed\nthree"
    assert job_logs.excerpt(text[at : at + 1] for at in range(len(text))) == job_logs.excerpt([text])


def test_a_huge_log_is_read_to_its_end(server: GitHubServer, github: GitHub) -> None:
    line = b"x" * 100 + b"\n"
    huge = job(server, line * 500_000 + b"the end\n")  # 50 MB
    found = github.job_log(SHOP, huge)
    assert (found.lines[-1], found.is_whole) == ((500_001, "the end"), True)


def test_what_never_ends_is_given_up_and_takes_little_memory() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 2**20

    tracemalloc.start()
    found = job_logs.excerpt(endless())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not found.is_whole
    assert peak < 16 * 2**20


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://localhost:1/",
        "http://example.org/log",
        "ftp://example.org/log",
        "https://user:secret@example.org/",
        "https://example.org:99999/",
        "//example.org/log",
        "file:///etc/passwd",
    ],
)
def test_it_is_not_followed_to_private_places(server: GitHubServer, github: GitHub, address: str) -> None:
    with pytest.raises(Unavailable, match=r"https|private"):
        github.job_log(SHOP, job(server, address))


def test_a_local_place_is_for_a_local_github_only(server: GitHubServer, github: GitHub, settings: Settings) -> None:
    there = job(server, b"x")
    settings.GITHUB_URL = "https://github.com"
    with pytest.raises(Unavailable, match="https"):
        github.job_log(SHOP, there)


def test_a_second_redirect_is_not_followed(server: GitHubServer, github: GitHub) -> None:
    there = job(server, b"x")
    server.fault("/_logs/", status=302, headers={"Location": f"{server.url}/_logs/1"})
    with pytest.raises(Unavailable, match="302"):
        github.job_log(SHOP, there)


@pytest.mark.parametrize("fault", [{"status": 500}, {"drops": True}, {"status": 404}])
def test_a_log_that_does_not_come_says_so(server: GitHubServer, github: GitHub, fault: dict[str, int]) -> None:
    there = job(server, b"x")
    server.fault("/_logs/", **fault)
    with pytest.raises(Unavailable, match="Try again"):
        github.job_log(SHOP, there)


def test_one_that_comes_too_slowly_is_not_waited_for(server: GitHubServer, github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_logs, "TIMEOUT_S", 0.2)
    there = job(server, b"x")
    server.fault("/_logs/", status=0, delay_s=1.0)
    with pytest.raises(Unavailable, match="Timeout"):
        github.job_log(SHOP, there)


def test_a_log_that_is_gone_or_not_for_this_token_is_told_so(server: GitHubServer, github: GitHub) -> None:
    gone = server.add_check_run(SHOP, server.branches(SHOP)["main"], conclusion="failure")
    with pytest.raises(NotFoundOnGitHub):
        github.job_log(SHOP, gone)
    server.fault("/logs$", status=403, body={"message": "Must have admin rights to Repository."})
    with pytest.raises(PermissionMissing):
        github.job_log(SHOP, gone)
