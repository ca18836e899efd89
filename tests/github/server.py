"""GitHub on loopback, for tests: pages and sign-in at the root, the API at /api/v3, repositories at /OWNER/NAME.git."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.github.apps import Apps
from tests.github.emulator import Emulator
from tests.github.front import Fault, Front, Limit, handler
from tests.github.repositories import Repository
from tests.github.webhooks import Delivery, Webhooks
from tests.github.world import Person, Request, Token, World

Files = dict[str, str | bytes | None]
SCOPES = ("read:org", "repo", "user:email", "workflow")


class _Server(ThreadingHTTPServer):
    """Ends kept-alive connections when it is closed, and waits for their threads."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # who asked has gone: some tests do that
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # it is just ending
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class GitHubServer:
    """`url` is what GITHUB_URL is to be. One may be kept for many tests: `forget()` takes faults, limits and what was seen away."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="github-", dir="/tmp"))
        self._emulator = Emulator()
        self.world = World(self._emulator, self._folder)
        self.front = Front(self.world)
        self.webhooks = Webhooks(self.front.rewritten)
        self.world.tell = self.webhooks.happened
        self._server = _Server(("127.0.0.1", 0), handler(self.front))
        self.url = self.front.url = self.front.apps.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="github")

    def start(self) -> GitHubServer:
        self._emulator.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self.webhooks.stop()
        self._emulator.stop()
        shutil.rmtree(self._folder)

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/v3"

    # --- people -------------------------------------------------------------------------------------------------------

    def add_user(
        self,
        login: str,
        token: str | None = None,
        orgs: tuple[str, ...] | list[str] = (),
        *,
        scopes: tuple[str, ...] | None = SCOPES,
        name: str | None = None,
        email: str | None = None,
        is_email_public: bool = False,
    ) -> Person:
        """A person, with a token if one is given. Again with other organizations is fine; they only grow."""
        email = email or f"{login}@example.org"
        known = self.world.people.get(login)
        orgs = tuple(dict.fromkeys([*(known.orgs if known else ()), *orgs]))
        told = self._emulator.tell("user", login=login, name=name or login.title(), email=email, orgs=orgs, token=f"as:{login}")
        self.world.people[login] = Person(login, told["id"], email, is_email_public, orgs)
        if token:
            self.add_token(login, token, scopes)
        return self.world.people[login]

    def add_token(self, login: str, token: str, scopes: tuple[str, ...] | None = SCOPES) -> None:
        """Another token of a person's; `scopes` None is a fine-grained one, of which GitHub tells no scopes."""
        self.world.tokens[token] = Token(login, scopes)

    def revoke(self, token: str) -> None:
        """From now on it is 401, as if the user had taken it back."""
        del self.world.tokens[token]

    def add_oauth_app(self, client_id: str, client_secret: str, redirect_uris: list[str]) -> None:
        """Once there is one, others are refused."""
        self._emulator.tell("app", client_id=client_id, client_secret=client_secret, name="asynccode", redirect_uris=redirect_uris)

    def authorize(self, address: str, login: str) -> str:
        """What the user does at the page that a sign-in leads to: agree. Gives the address that GitHub sends the browser back to."""
        query = dict(parse_qsl(urlsplit(address).query))
        page = self._emulator.ask("GET", f"/login/oauth/authorize?{urlsplit(address).query}", {})
        assert page.status == 200, page.body.decode()
        form = {name: query.get(name, "") for name in ("redirect_uri", "scope", "state", "client_id")}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._emulator.ask("POST", "/login/oauth/callback", headers, urlencode(form | {"login": login}).encode()).header("location")

    @property
    def apps(self) -> Apps:
        """GitHub Apps: making, installing and losing them."""
        return self.front.apps

    # --- repositories -------------------------------------------------------------------------------------------------

    def add_repo(
        self,
        full_name: str,
        files: Files | None = None,
        *,
        private: bool = False,
        archived: bool = False,
        permissions: dict[str, str] | None = None,
        default_branch: str = "main",
        allows_drafts: bool = True,
        merge_methods: tuple[str, ...] = ("merge", "squash", "rebase"),
        is_fork: bool = False,
    ) -> Repository:
        """A repository with one commit of these files; without files ({}) it is empty. Its owner is a person, or else an organization.

        `permissions`: login → admin, maintain, push, triage or pull, of people who were added.
        """
        path = self._folder / f"{full_name}.git"
        repository = Repository(full_name, path, private, archived, permissions or {}, allows_drafts, default_branch)
        repository.create()
        settings = {"private": private, "visibility": "private" if private else "public", "archived": archived, "fork": is_fork}
        settings |= {
            f"allow_{key}": method in merge_methods
            for method, key in (("merge", "merge_commit"), ("squash", "squash_merge"), ("rebase", "rebase_merge"))
        }
        told = self._emulator.tell(
            "repo",
            full_name=full_name,
            permissions={**repository.permissions, "admin": "admin"},
            settings=settings,
            default_branch=default_branch,
        )
        repository.id = told["id"]
        self.world.repositories[full_name] = repository
        files = {"README.md": f"# {full_name}\n"} if files is None else files
        if files:
            self.push(full_name, default_branch, files, message="Initial commit")
        return repository

    def push(self, full_name: str, branch: str, files: Files, *, message: str = "Change", login: str = "") -> str:
        """Commit these files to a branch as if somebody had pushed it; the commit."""
        repository = self.world.repositories[full_name]
        before = repository.branches()
        commit = repository.commit(branch, files, message)
        owner = full_name.split("/")[0]
        self.front.pushed(repository, before, login or (owner if owner in self.world.people else "admin"))
        return commit

    def delete_branch(self, full_name: str, branch: str) -> None:
        repository = self.world.repositories[full_name]
        before = repository.branches()
        repository.git("update-ref", "-d", f"refs/heads/{branch}")
        self.front.pushed(repository, before, "admin")

    def branches(self, full_name: str) -> dict[str, str]:
        """Branch → commit, as git has them."""
        return self.world.repositories[full_name].branches()

    def read(self, full_name: str, ref: str, path: str) -> str:
        """A file's text at a branch or commit; KeyError if it is not there."""
        found = self.world.repositories[full_name].entry(ref, path)
        if not isinstance(found, bytes):
            raise KeyError(path)
        return found.decode()

    def archive(self, full_name: str) -> None:
        self.world.repositories[full_name].is_archived = True
        self._emulator.tell("repo", full_name=full_name, permissions={}, settings={"archived": True}, default_branch="")

    def add_label(self, full_name: str, name: str, color: str = "ededed", description: str = "") -> None:
        self.as_user("admin", "POST", f"/repos/{full_name}/labels", {"name": name, "color": color, "description": description})

    def protect(self, full_name: str, branch: str) -> None:
        """Pushes to the branch are refused, and merges wait for a review."""
        self.world.repositories[full_name].protected.add(branch)

    # --- pull requests and issues -------------------------------------------------------------------------------------

    def as_user(self, login: str, method: str, path: str, body: Any = None) -> Any:
        """What the emulator answers to this user; `path` below /api/v3. What it does is told to who listens."""
        answer = self._emulator.ask_as(login, method, path, body)
        self.front.tell_what_happened()
        return self.front.rewritten(answer)

    def add_pull(self, full_name: str, head: str, base: str = "main", *, login: str = "admin", title: str = "", draft: bool = False) -> int:
        body = {"head": head, "base": base, "title": title or head, "draft": draft}
        return int(self.as_user(login, "POST", f"/repos/{full_name}/pulls", body)["number"])

    def pull(self, full_name: str, number: int) -> dict[str, Any]:
        """A pull request as the emulator has it."""
        found: dict[str, Any] = self.as_user("admin", "GET", f"/repos/{full_name}/pulls/{number}")
        return found

    def pulls(self, full_name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.as_user("admin", "GET", f"/repos/{full_name}/pulls?state=all&per_page=100")
        return found

    def merge(self, full_name: str, number: int, *, login: str = "admin", method: str = "merge") -> str:
        """Merge as somebody at GitHub would, in git too; the commit."""
        pull = self.pull(full_name, number)
        repository = self.world.repositories[full_name]
        before = repository.branches()
        commit = repository.merge(pull["base"]["ref"], pull["head"]["ref"], method=method, message=f"Merge pull request #{number}")
        self._emulator.ask_as(login, "PUT", f"/repos/{full_name}/pulls/{number}/merge", {"merge_method": method})
        self._emulator.tell("merged", full_name=full_name, number=number, sha=commit)
        self.front.pushed(repository, before, login)
        self.front.tell_what_happened()
        return commit

    def close(self, full_name: str, number: int, *, login: str = "admin") -> None:
        self.as_user(login, "PATCH", f"/repos/{full_name}/pulls/{number}", {"state": "closed"})

    def add_check_run(
        self,
        full_name: str,
        sha: str,
        name: str = "tests",
        *,
        conclusion: str = "",
        details_url: str = "",
        title: str = "",
        summary: str = "",
    ) -> int:
        """One of a GitHub App's: under way, or with a conclusion (success, failure, …) over."""
        body: dict[str, Any] = {"name": name, "head_sha": sha, "status": "completed" if conclusion else "in_progress"}
        body |= {"details_url": details_url or f"{self.url}/{full_name}/actions/runs/1", "output": {"title": title, "summary": summary}}
        if conclusion:
            body["conclusion"] = conclusion
        return int(self.as_user("admin", "POST", f"/repos/{full_name}/check-runs", body)["id"])

    def add_job(self, full_name: str, sha: str, name: str = "tests", log: bytes | str = b"", *, conclusion: str = "failure") -> int:
        """A check run that is a job of Actions, with its log, or with the address that GitHub leads to for it."""
        job = self.add_check_run(full_name, sha, name, conclusion=conclusion)
        if isinstance(log, bytes):
            self.world.logs[str(job)] = log
        self.world.jobs[job] = f"{self.url.replace('127.0.0.1', 'localhost')}/_logs/{job}?sig=x" if isinstance(log, bytes) else log
        return job

    def finish_check_run(self, full_name: str, run: int, conclusion: str) -> None:
        self.as_user("admin", "PATCH", f"/repos/{full_name}/check-runs/{run}", {"status": "completed", "conclusion": conclusion})

    def add_status(self, full_name: str, sha: str, context: str, state: str, target_url: str = "") -> None:
        """A commit status, the older kind of check: pending, success, failure or error."""
        row = {"context": context, "state": state, "target_url": target_url or None, "description": None}
        self.world.repositories[full_name].statuses.setdefault(sha, []).append(row)
        repository = self._emulator.ask_as("admin", "GET", f"/repos/{full_name}")
        self.world.tell("status", {"sha": sha, **row, "repository": repository})

    def add_review(self, full_name: str, number: int, login: str, event: str = "APPROVE", body: str = "") -> int:
        """`event`: APPROVE, REQUEST_CHANGES or COMMENT."""
        path = f"/repos/{full_name}/pulls/{number}/reviews"
        return int(self.as_user(login, "POST", path, {"event": event, "body": body or "Looked at it."})["id"])

    def add_review_comment(self, full_name: str, number: int, login: str, path: str, line: int, body: str, *, reply_to: int = 0) -> int:
        """A comment on a line; the id."""
        content: dict[str, Any] = {"path": path, "line": line, "side": "RIGHT", "body": body}
        if reply_to:
            content["in_reply_to_id"] = reply_to
        return int(self.as_user(login, "POST", f"/repos/{full_name}/pulls/{number}/comments", content)["id"])

    def reviews(self, full_name: str, number: int) -> list[dict[str, Any]]:
        """All, each with its `comments`, as GitHub would tell them."""
        path = f"/repos/{full_name}/pulls/{number}/reviews"
        found: list[dict[str, Any]] = self.as_user("admin", "GET", f"{path}?per_page=100")
        for one in found:
            comments = self.as_user("admin", "GET", f"{path}/{one['id']}/comments?per_page=100")
            one["comments"] = [comment | self.world.starts.get(comment["id"], {}) for comment in comments]
        return found

    def resolve(self, comment: int) -> None:
        """Resolve the thread that this review comment began."""
        self.world.resolved.add(comment)

    def outdate(self, comment: int) -> None:
        self.world.outdated.add(comment)

    def add_issue(self, full_name: str, login: str, title: str, body: str = "", labels: list[str] | None = None) -> int:
        content = {"title": title, "body": body, "labels": labels or []}
        return int(self.as_user(login, "POST", f"/repos/{full_name}/issues", content)["number"])

    def add_comment(self, full_name: str, number: int, login: str, body: str) -> int:
        """On an issue or a pull request; the id."""
        return int(self.as_user(login, "POST", f"/repos/{full_name}/issues/{number}/comments", {"body": body})["id"])

    def comments(self, full_name: str, number: int) -> list[dict[str, Any]]:
        """Of an issue or a pull request, oldest first."""
        found: list[dict[str, Any]] = self.as_user("admin", "GET", f"/repos/{full_name}/issues/{number}/comments?per_page=100")
        return found

    @property
    def reactions(self) -> list[dict[str, Any]]:
        """Of all: {repository, subject, content, login}; a subject is issues/N, issues/comments/N or pulls/comments/N."""
        return self.world.reactions

    # --- webhooks -----------------------------------------------------------------------------------------------------

    def listen(self, url: str, secret: str, *events: str) -> None:
        """Deliver what happens from now on to this address, signed with the secret; all events, or those named."""
        self.webhooks.listen(url, secret, frozenset(events))

    def deliver(self, event: str, payload: dict[str, Any], *, id: str = "", secret: str | None = None) -> Delivery:
        """Deliver this now to who listens. The same `id` again is a redelivery; another secret is a forgery."""
        return self.webhooks.deliver(event, payload, id=id, secret=secret)

    @property
    def deliveries(self) -> list[Delivery]:
        """What was delivered until now, with what was answered; all that happened is."""
        self.webhooks.wait()
        return self.webhooks.deliveries

    # --- trouble ------------------------------------------------------------------------------------------------------

    def fault(self, pattern: str, **what: Any) -> Fault:
        """Give requests whose path matches another answer, once unless `times` says more; see Fault."""
        self.front.faults.append(Fault(pattern, **what))
        return self.front.faults[-1]

    def limit(self, *, secondary: bool = False, seconds: float = 60, login: str = "", status: int = 403) -> None:
        """Refuse API requests for that long, as GitHub does to those who ask too often."""
        self.front.limits.append(Limit(not secondary, time.time() + seconds, login, status))

    @property
    def seen(self) -> list[Request]:
        """All requests until now, with the status they got."""
        return self.front.seen

    def forget(self) -> None:
        """Faults, limits, what was seen and delivered, and who listens; people and repositories stay."""
        self.webhooks.wait()
        self.webhooks.listen("", "")
        self.front.faults, self.front.limits, self.front.seen, self.webhooks.deliveries = [], [], [], []


@contextmanager
def github_server() -> Iterator[GitHubServer]:
    server = GitHubServer()
    try:
        yield server.start()
    finally:
        server.stop()
