"""Who and what there is at the GitHub of the tests, beside what the emulator keeps itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.github.emulator import Answer, Emulator
from tests.github.repositories import Repository

DOCS = "https://docs.github.com/rest"
ROLES = ("none", "pull", "triage", "push", "maintain", "admin")


@dataclass(frozen=True)
class Person:
    login: str
    id: int
    email: str
    is_email_public: bool
    orgs: tuple[str, ...]

    @property
    def noreply(self) -> str:
        return f"{self.id}+{self.login}@users.noreply.github.com"


@dataclass(frozen=True)
class Token:
    """`scopes` of a classic or OAuth token; None for a fine-grained one, of which GitHub tells none. `repositories`: those that it is
    for, of an installation of an app; None is all."""

    login: str
    scopes: tuple[str, ...] | None
    repositories: frozenset[str] | None = None

    def has(self, *scopes: str) -> bool:
        return self.scopes is None or any(scope in self.scopes for scope in scopes)

    def reaches(self, full_name: str) -> bool:
        return self.repositories is None or full_name in self.repositories


@dataclass
class Request:
    """`path` is what follows /api/v3; `login` is "" for one without a token."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes
    login: str = ""
    token: Token | None = None
    status: int = 0
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> dict[str, Any]:
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class World:
    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator, self.folder = emulator, folder
        self.people: dict[str, Person] = {}
        self.tokens: dict[str, Token] = {}
        self.repositories: dict[str, Repository] = {}
        self.resolved: set[int] = set()  # review comments
        self.outdated: set[int] = set()
        self.starts: dict[int, dict[str, Any]] = {}  # of comments on several lines: review comment → start_line, start_side
        self.jobs: dict[int, str] = {}  # of Actions: check run → the address of its log
        self.logs: dict[str, bytes] = {}  # what lies below /_logs/
        self.reactions: list[dict[str, Any]] = []
        self.tell: Callable[[str, Any], None] = lambda event, payload: None  # somebody who listens to webhooks

    def repository(self, path: str) -> Repository | None:
        """That of /repos/OWNER/NAME/…; GitHub does not mind upper and lower case."""
        parts = path.strip("/").split("/")
        full_name = "/".join(parts[1:3]).lower() if parts[0] == "repos" else ""
        return next((one for name, one in self.repositories.items() if name.lower() == full_name), None)

    def role(self, login: str, repository: Repository) -> str:
        owner = repository.full_name.split("/")[0]
        if login and login == owner:
            return "admin"
        lowest = "pull" if not repository.is_private or self.is_member(login, owner) else "none"
        return max(lowest, repository.permissions.get(login, "none"), key=ROLES.index)

    def can(self, login: str, repository: Repository, role: str) -> bool:
        return ROLES.index(self.role(login, repository)) >= ROLES.index(role)

    def is_member(self, login: str, org: str) -> bool:
        return login in self.people and org in self.people[login].orgs

    def synchronize(self, repository: Repository, sender: str) -> None:
        """Tell the emulator what was pushed, and listeners of what moved by it."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        told = self.emulator.tell(
            "refs", full_name=repository.full_name, branches=repository.branches(), commits=repository.commits(), at=at
        )
        for number in told["moved"]:
            pull = self.emulator.ask_as("admin", "GET", f"/repos/{repository.full_name}/pulls/{number}")
            user = self.emulator.ask_as("admin", "GET", f"/users/{sender}")
            payload = {"action": "synchronize", "number": number, "pull_request": pull, "repository": pull["base"]["repo"], "sender": user}
            self.tell("pull_request", payload)


def reply(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """An answer in JSON; no body is none."""
    content = b"" if body is None else json.dumps(body).encode()
    return Answer(status, [("Content-Type", "application/json; charset=utf-8"), *(headers or {}).items()], content)


def error(status: int, message: str, *errors: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    body: dict[str, Any] = {"message": message, "documentation_url": DOCS, "status": str(status)}
    return reply(status, body | ({"errors": list(errors)} if errors else {}), headers)
