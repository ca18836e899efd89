"""The front: an HTTP server that is GitHub for those who ask it, with the emulator and git behind it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from tests.github import actions, gaps
from tests.github.apps import Apps
from tests.github.emulator import BASE, Answer
from tests.github.repositories import Repository
from tests.github.world import Request, Token, World, error, reply

_GIT = re.compile(r"/([^/]+/[^/]+?)(?:\.git)?/(info/refs|git-upload-pack|git-receive-pack)")
_HOST = urlsplit(BASE).netloc
_OF_WEB = ("html_url", "avatar_url", "clone_url", "svn_url", "diff_url", "patch_url")
_PASSED_ON = ("accept", "content-type", "cookie", "user-agent")
_DROPPED = ("connection", "content-length", "date", "keep-alive", "transfer-encoding", "access-control-allow-origin")


@dataclass
class Fault:
    """What happens to requests whose method and path (with /api/v3, or of git) match, `times` times; None is always."""

    pattern: str
    method: str = ""
    status: int = 500
    body: Any = None  # JSON, or bytes as they are
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = 1
    delay_s: float = 0.0  # then, without `status`, the true answer
    drops: bool = False  # the connection, without an answer
    loses: bool = False  # the true answer: it is done, and the connection drops

    def takes(self, method: str, path: str) -> bool:
        if self.times == 0 or self.method not in ("", method) or not re.search(self.pattern, path):
            return False
        self.times = self.times and self.times - 1
        return True


@dataclass
class Limit:
    """No more requests until `until` (seconds since the epoch), for this user's tokens or for everybody's ("")."""

    is_primary: bool
    until: float
    login: str = ""
    status: int = 403


class Dropped(Exception):
    """The connection ends without an answer."""


class Front:
    def __init__(self, world: World) -> None:
        self.world, self.apps = world, Apps(world)
        self.url = ""
        self.faults: list[Fault] = []
        self.limits: list[Limit] = []
        self.seen: list[Request] = []

    def answer(self, request: Request, path: str, raw_query: str) -> Answer:
        """`path` as it was asked for; the request is remembered with the status it got."""
        self.seen.append(request)
        fault = next((one for one in self.faults if one.takes(request.method, path)), None)
        if fault is not None:
            time.sleep(fault.delay_s)
            if fault.drops:
                raise Dropped
        if fault is not None and fault.status and not fault.loses:
            content = fault.body if isinstance(fault.body, bytes) else json.dumps(fault.body or {"message": "Server Error"}).encode()
            headers = {"Content-Type": "application/json; charset=utf-8"} | fault.headers
            answer = Answer(fault.status, list(headers.items()), content)
        elif git := _GIT.fullmatch(path):
            answer = self._git(request, git[1], git[2])
        elif path.startswith("/api/"):
            answer = self._api(request, path, raw_query)
        elif path.startswith("/_logs/"):
            answer = actions.log(self.world, request, path.removeprefix("/_logs/"))
        elif path.startswith(("/login/", "/_emulate/")):
            answer = self._login(request, path, raw_query)
        else:
            answer = Answer(200, [("Content-Type", "text/html; charset=utf-8")], b"<!doctype html><title>GitHub</title><h1>GitHub</h1>")
        request.status = answer.status
        if fault is not None and fault.loses:
            raise Dropped
        return answer

    # --- the API ------------------------------------------------------------------------------------------------------

    def _api(self, request: Request, path: str, raw_query: str) -> Answer:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if answer := self.apps.answer(request, path.removeprefix("/api/v3"), secret):
            return answer
        if scheme:
            secret = _password(secret) if scheme.lower() == "basic" else secret.strip()
            request.token = self.world.tokens.get(secret)
            if request.token is None:
                return error(401, "Bad credentials")
            request.login = request.token.login
        if limited := self._limited(request):
            return limited
        if path == "/api/graphql":
            answer = gaps.graphql(self.world, request)
        elif not path.startswith("/api/v3"):
            return error(404, "Not Found")
        else:
            request.path = path.removeprefix("/api/v3") or "/"
            answer = gaps.instead(self.world, request) or self._ask(request, raw_query)
        answer = self._finished(request, answer)
        self.tell_what_happened()
        return answer

    def _limited(self, request: Request) -> Answer | None:
        now = time.time()
        for limit in self.limits:
            if limit.until <= now or limit.login not in ("", request.login):
                continue
            wait = str(max(1, round(limit.until - now)))
            if limit.is_primary:
                headers = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(round(limit.until))}
                return error(limit.status, "API rate limit exceeded for user ID 1.", headers=headers | {"X-RateLimit-Resource": "core"})
            words = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
            return error(limit.status, words, headers={"Retry-After": wait})
        return None

    def _ask(self, request: Request, raw_query: str, path: str = "") -> Answer:
        headers = {name: value for name, value in request.headers.items() if name in _PASSED_ON}
        if request.login:
            headers["authorization"] = f"token as:{request.login}"
        target = path or request.path
        return self.world.emulator.ask(request.method, f"{target}?{raw_query}" if raw_query else target, headers, request.body)

    def _finished(self, request: Request, answer: Answer) -> Answer:
        """Put right, with URLs of ours, an ETag, scopes; or 304."""
        headers = [(name, value) for name, value in answer.headers if name.lower() not in _DROPPED]
        body = answer.body
        if body and "json" in answer.header("content-type"):
            value = json.loads(body)
            body = json.dumps(self.rewritten(gaps.correct(self.world, request, value))).encode()
        headers = [
            (name, re.sub(r"https?://(emulator\.invalid|127\.0\.0\.1:\d+)/", f"{self.url}/api/v3/", value)) for name, value in headers
        ]
        if request.token and request.token.scopes is not None:
            headers.append(("X-OAuth-Scopes", ", ".join(request.token.scopes)))
        if request.method == "GET" and answer.status == 200:
            etag = f'W/"{hashlib.sha256(body).hexdigest()}"'
            headers += [("ETag", etag), ("Cache-Control", "private, max-age=60, s-maxage=60")]
            if etag in request.headers.get("if-none-match", ""):
                return Answer(304, [one for one in headers if one[0].lower() != "content-type"], b"")
        return Answer(answer.status, headers, body)

    def rewritten(self, value: Any, key: str = "") -> Any:
        """The emulator's URLs as ours: pages at the root, the API below /api/v3."""
        if isinstance(value, list):
            return [self.rewritten(one, key) for one in value]
        if isinstance(value, dict):
            is_link = key == "html"  # of _links
            return {name: self.rewritten(one, "html_url" if is_link else name) for name, one in value.items()}
        if isinstance(value, str) and _HOST in value:
            value = value.replace(BASE, self.url if key in _OF_WEB else f"{self.url}/api/v3")
            return value.replace(_HOST, urlsplit(self.url).netloc)  # of git:// and git@
        return value

    def tell_what_happened(self) -> None:
        for one in self.world.emulator.tell("events"):
            self.world.tell(one["event"], one["payload"])

    # --- signing in ---------------------------------------------------------------------------------------------------

    def _login(self, request: Request, path: str, raw_query: str) -> Answer:
        if path == "/login/oauth/access_token" and (renewed := self.apps.renew(request)):
            return renewed
        answer = self._ask(request, raw_query, path)
        if path == "/login/oauth/access_token" and answer.status == 200:
            is_form = "urlencoded" in answer.header("content-type")
            said = dict(parse_qsl(answer.body.decode())) if is_form else answer.json
            if token := said.get("access_token"):
                login = self.world.emulator.ask("GET", "/user", {"Authorization": f"token {token}"}).json["login"]
                if by_app := self.apps.in_place_of(request, login):
                    return reply(200, by_app)
                self.world.tokens[token] = Token(login, tuple(sorted(filter(None, re.split(r"[,\s]+", said.get("scope", ""))))))
        return replace(answer, headers=[one for one in answer.headers if one[0].lower() not in _DROPPED])

    # --- git ----------------------------------------------------------------------------------------------------------

    def _git(self, request: Request, full_name: str, service: str) -> Answer:
        repository = self.world.repository(f"/repos/{full_name}")
        is_push = "git-receive-pack" in (service, request.query.get("service"))
        if authorization := request.headers.get("authorization", ""):
            secret = _password(authorization.partition(" ")[2])
            request.token = self.world.tokens.get(secret)
            if request.token is None:
                return _said(401, "Invalid username or token. Password authentication is not supported for Git operations.")
            request.login = request.token.login
        refused = self._git_refused(request, repository, full_name, is_push)
        if refused is not None or repository is None:
            return refused or _said(404, "Repository not found.")
        before = repository.branches()
        environment = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": f"/{service}",
            "QUERY_STRING": urlencode(request.query),
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "REMOTE_USER": request.login,
            "STAND_IN_NO_WORKFLOWS": "" if request.token is None or request.token.has("workflow") else "1",
        }
        answer = Answer(*repository.serve(environment, request.body))
        if service == "git-receive-pack":
            self.pushed(repository, before, request.login)
        return answer

    def _git_refused(self, request: Request, repository: Repository | None, full_name: str, is_push: bool) -> Answer | None:
        if request.token is None and (is_push or repository is None or repository.is_private):
            return _said(401, "Repository not found.")
        if repository is None or not self.world.can(request.login, repository, "pull"):
            return _said(404, "Repository not found.")
        if request.token and not request.token.reaches(repository.full_name):
            return _said(404, "Repository not found.")
        if repository.is_private and request.token and not request.token.has("repo"):
            return _said(404, "Repository not found.")
        if not is_push:
            return None
        assert request.token is not None
        if not self.world.can(request.login, repository, "push") or not request.token.has("repo", "public_repo"):
            return _said(403, f"Permission to {full_name}.git denied to {request.login}.")
        return _said(403, "This repository was archived so it is read-only.") if repository.is_archived else None

    def pushed(self, repository: Repository, before: dict[str, str], login: str) -> None:
        """Tell the emulator and who listens what branches there are now."""
        after = repository.branches()
        if before == after:
            return
        self.world.synchronize(repository, login)
        none = "0" * 40
        about = self.world.emulator.ask_as("admin", "GET", f"/repos/{repository.full_name}")
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name, none), after.get(name, none)
            if old != new:
                payload = {"ref": f"refs/heads/{name}", "before": old, "after": new, "created": old == none, "deleted": new == none}
                self.world.tell("push", payload | {"repository": about, "pusher": {"name": login}, "sender": {"login": login}})


def _password(encoded: str) -> str:
    """Of Basic authentication: the token, whatever the user's name; or the name where the password says nothing."""
    try:
        name, _, password = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return ""
    return name if password in ("", "x-oauth-basic") else password


def _said(status: int, text: str) -> Answer:
    """What git shows as `remote: …`."""
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    return Answer(status, [*headers, ("WWW-Authenticate", 'Basic realm="GitHub"')] if status == 401 else headers, text.encode())


def handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "github.com", ""
        wbufsize, disable_nagle_algorithm = -1, True  # or each answer would cost 40 ms

        def _do(self) -> None:
            address = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
            request = Request(self.command, address.path, query, headers, self._body(headers))
            try:
                # git's own path stays as it is; the emulator wants it encoded, we want to read it
                answer = front.answer(request, address.path if "%2F" in address.path else unquote(address.path), address.query)
            except Dropped:
                self.close_connection = True
                return
            except AssertionError as wrong:
                answer = reply(500, {"message": str(wrong)})
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            if answer.status not in (204, 304):
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            try:
                self.wfile.write(b"" if self.command == "HEAD" or answer.status in (204, 304) else answer.body)
                self.wfile.flush()
            except OSError:
                self.close_connection = True  # who asked has gone

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _do  # noqa: N815

        def _body(self, headers: dict[str, str]) -> bytes:
            if headers.get("transfer-encoding", "").lower() != "chunked":
                return self.rfile.read(int(headers.get("content-length", 0)))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, *args: object) -> None: ...

    return Handler
