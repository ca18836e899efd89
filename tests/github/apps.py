"""GitHub Apps: made from a manifest, known by their JWTs, installed on accounts, with tokens for single repositories; and the tokens
of people who sign in by one, which expire and are renewed."""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.github.emulator import Answer
from tests.github.world import Request, Token, World, error, reply

_NOT_FOUND = error(404, "Not Found")
_NOT_ACCESSIBLE = "There is at least one repository that does not exist or is not accessible to the parent installation."


@dataclass
class Installation:
    """On one account; no repositories are all of them."""

    id: int
    account: str
    repositories: tuple[str, ...]
    permissions: dict[str, str]
    is_suspended: bool = False


@dataclass
class App:
    """`token_s`: how long its installation tokens live, `user_token_s`: those of people."""

    id: int
    owner: str
    slug: str
    manifest: dict[str, Any]
    key: rsa.RSAPrivateKey
    client_id: str
    client_secret: str
    webhook_secret: str | None
    installations: dict[str, Installation] = field(default_factory=dict)
    token_s: int = 3600
    user_token_s: int = 28800

    @property
    def bot(self) -> str:
        return f"{self.slug}[bot]"

    @property
    def pem(self) -> str:
        form = serialization.PrivateFormat.TraditionalOpenSSL
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


class Apps:
    def __init__(self, world: World) -> None:
        self._world = world
        self.url = ""
        self.all: list[App] = []
        self._codes: dict[str, App] = {}
        self._refresh: dict[str, tuple[App, str]] = {}

    # --- what people do at GitHub -------------------------------------------------------------------------------------

    def create(self, address: str, manifest: str, operator: str) -> str:
        """Agree to the form that a manifest came with; where the browser is sent to. `address` is what the form was sent to."""
        parts, said = urlsplit(address), json.loads(manifest)
        found = re.fullmatch(r"(?:/organizations/([^/]+))?/settings/apps/new", parts.path)
        assert found is not None, address
        assert {"url", "redirect_url"} <= said.keys(), said
        hook = said.get("hook_attributes")
        assert hook is None or "localhost" not in hook["url"], "Hook url is not supported because it isn't reachable"
        assert hook is not None or not said.get("default_events"), said
        app = self.add(found[1] or operator, said)
        code = secrets.token_hex(20)
        self._codes[code] = app
        state = parse_qs(parts.query).get("state", [""])[0]
        return f"{said['redirect_url']}?{urlencode({'code': code, 'state': state})}"

    def add(self, owner: str, manifest: dict[str, Any]) -> App:
        number = len(self.all) + 1
        slug = re.sub(r"[^a-z0-9]+", "-", manifest["name"].lower())
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        webhook_secret = secrets.token_hex(20) if manifest.get("hook_attributes") else None
        app = App(number, owner, slug, manifest, key, f"Iv23{secrets.token_hex(8)}", secrets.token_hex(20), webhook_secret)
        self.all.append(app)
        name = manifest["name"]
        self._world.emulator.tell(
            "app", client_id=app.client_id, client_secret=app.client_secret, name=name, redirect_uris=manifest["callback_urls"]
        )
        self._world.emulator.tell("user", login=app.bot, name=name, email=f"{app.bot}@example.org", orgs=[], token=f"as:{app.bot}")
        return app

    def install(self, app: App, account: str, repositories: tuple[str, ...] = ()) -> Installation:
        """On an account, for all of its repositories or for those that are named."""
        permissions = dict(app.manifest["default_permissions"])
        installation = app.installations[account.lower()] = Installation(1000 + len(app.installations), account, repositories, permissions)
        for name, repository in self._world.repositories.items():
            if name.split("/")[0].lower() == account.lower() and (not repositories or name in repositories):
                repository.permissions[app.bot] = "push"
                self._world.emulator.tell("repo", full_name=name, permissions={app.bot: "push"}, settings={}, default_branch="")
        return installation

    def uninstall(self, app: App, account: str) -> None:
        """Its tokens die with it."""
        del app.installations[account.lower()]
        self.revoke_tokens(app)

    def suspend(self, app: App, account: str) -> None:
        app.installations[account.lower()].is_suspended = True
        self.revoke_tokens(app)

    def revoke_tokens(self, app: App) -> None:
        for token in [token for token, known in self._world.tokens.items() if known.login == app.bot]:
            del self._world.tokens[token]

    def delete(self, app: App) -> None:
        self.all.remove(app)
        self.revoke_tokens(app)

    # --- asked without a user -----------------------------------------------------------------------------------------

    def answer(self, request: Request, path: str, secret: str) -> Answer | None:
        """To an app, or to whoever has a code; None where this is about neither. `secret`: the bearer token."""
        if found := re.fullmatch(r"/app-manifests/([^/]+)/conversions", path):
            return self._convert(request, found[1])
        if secret.count(".") != 2:
            return None
        if (app := self._of(secret, request.headers.get("authorization", ""))) is None:
            return error(401, "A JSON web token could not be decoded")
        if path == "/app":
            return reply(200, self._described(app))
        if path == "/app/installations":
            return reply(200, [self._shown(app, one) for one in app.installations.values()])
        if found := re.fullmatch(r"/app/installations/(\d+)/access_tokens", path):
            return self._mint(app, request, int(found[1]))
        if found := re.fullmatch(r"/repos/([^/]+)/([^/]+)/installation", path):
            full_name = f"{found[1]}/{found[2]}"
            one = app.installations.get(found[1].lower())
            is_there = one is not None and full_name in self._world.repositories and (not one.repositories or full_name in one.repositories)
            return reply(200, self._shown(app, one)) if one and is_there else _NOT_FOUND
        if found := re.fullmatch(r"/(?:orgs|users)/([^/]+)/installation", path):
            one = app.installations.get(found[1].lower())
            return reply(200, self._shown(app, one)) if one else _NOT_FOUND
        return error(403, "Resource not accessible by integration")

    def _of(self, secret: str, authorization: str) -> App | None:
        for app in self.all:
            try:
                said = jwt.decode(secret, app.key.public_key(), algorithms=["RS256"], options={"require": ["iat", "exp", "iss"]})
            except jwt.InvalidTokenError:
                continue
            is_short = said["exp"] - time.time() <= 600
            return app if said["iss"] in (app.client_id, str(app.id)) and is_short and authorization.startswith("Bearer ") else None
        return None

    def _convert(self, request: Request, code: str) -> Answer:
        if (app := self._codes.pop(code, None)) is None or request.method != "POST":
            return _NOT_FOUND
        secret = {"client_secret": app.client_secret, "webhook_secret": app.webhook_secret, "pem": app.pem}
        return reply(201, self._described(app) | {"client_id": app.client_id} | secret)

    def _described(self, app: App) -> dict[str, Any]:
        is_user = app.owner in self._world.people
        return {
            "id": app.id,
            "slug": app.slug,
            "name": app.manifest["name"],
            "html_url": f"{self.url}/github-apps/{app.slug}",
            "owner": {"login": app.owner, "type": "User" if is_user else "Organization"},
            "permissions": app.manifest["default_permissions"],
        }

    def _shown(self, app: App, one: Installation) -> dict[str, Any]:
        return {
            "id": one.id,
            "app_id": app.id,
            "account": {"login": one.account},
            "permissions": one.permissions,
            "repository_selection": "selected" if one.repositories else "all",
            "suspended_at": "2026-11-01T00:00:00Z" if one.is_suspended else None,
            "html_url": f"{self.url}/settings/installations/{one.id}",
        }

    def _mint(self, app: App, request: Request, number: int) -> Answer:
        one = next((one for one in app.installations.values() if one.id == number), None)
        if one is None:
            return _NOT_FOUND
        if one.is_suspended:
            return error(403, "This installation has been suspended")
        names = [f"{one.account}/{name}" for name in request.json.get("repositories", [])]
        if not all(name in self._world.repositories and (not one.repositories or name in one.repositories) for name in names):
            return error(422, _NOT_ACCESSIBLE)
        permissions = request.json.get("permissions", one.permissions)
        levels = ("read", "write", "admin")
        if any(levels.index(level) > levels.index(one.permissions.get(name, "read")) for name, level in permissions.items()):
            return error(422, "The permissions requested are not granted to this installation.")
        token = f"ghs_{secrets.token_hex(18)}"
        self._world.tokens[token] = Token(app.bot, None, frozenset(names) if names else None)
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + app.token_s))
        return reply(201, {"token": token, "expires_at": ends, "permissions": permissions})

    # --- tokens of people ---------------------------------------------------------------------------------------------

    def renew(self, request: Request) -> Answer | None:
        """Another token for a refresh token, which is good once; None where something else is asked for."""
        form = dict(parse_qsl(request.body.decode()))
        if form.get("grant_type") != "refresh_token":
            return None
        app = next((one for one in self.all if one.client_id == form.get("client_id")), None)
        if app is None or app.client_secret != form.get("client_secret"):
            return reply(200, {"error": "incorrect_client_credentials"})
        if (known := self._refresh.pop(form.get("refresh_token", ""), None)) is None or known[0] is not app:
            return reply(200, {"error": "bad_refresh_token", "error_description": "The refresh token passed is incorrect or expired."})
        return reply(200, self.issue(app, known[1]))

    def issue(self, app: App, login: str) -> dict[str, Any]:
        """A token of a person's, and what renews it."""
        token, refresh = f"ghu_{secrets.token_hex(18)}", f"ghr_{secrets.token_hex(38)}"
        self._world.tokens[token] = Token(login, None)
        self._refresh[refresh] = (app, login)
        said = {"access_token": token, "expires_in": app.user_token_s, "refresh_token": refresh, "refresh_token_expires_in": 15897600}
        return said | {"scope": "", "token_type": "bearer"}

    def in_place_of(self, request: Request, login: str) -> dict[str, Any] | None:
        """What a sign-in gives that was done by an app; None for one by an OAuth app."""
        client_id = dict(parse_qsl(request.body.decode())).get("client_id")
        app = next((one for one in self.all if one.client_id == client_id), None)
        return self.issue(app, login) if app else None
