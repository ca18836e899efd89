"""Contacts with the place a repository comes from: checked first, pinned to what was checked, explained when they fail."""

from __future__ import annotations

import base64
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tasks.errors import EmptyRepository, RepoUnavailable
from tasks.git.commands import GitFailed, access, git
from tasks.git.sources import Resolver, Source, check_host


@dataclass(frozen=True)
class Heads:
    """What a remote offers: its default branch, all its branches (name → commit id)."""

    default: str
    branches: dict[str, str]

    @property
    def object_format(self) -> str:
        return "sha1" if len(self.branches[self.default]) == 40 else "sha256"


@dataclass(frozen=True)
class Remote:
    """A source, and the moment (time.monotonic) by which all that is done with it must be over.

    `token` signs in at the source, and only there. It is in the environment of the git that contacts it and nowhere else:
    not in arguments, configuration files, errors or logs.
    """

    source: Source
    deadline: float
    resolver: Resolver = socket.getaddrinfo
    token: str = field(default="", repr=False)

    @property
    def seconds_left(self) -> float:
        return max(0.05, self.deadline - time.monotonic())

    def git(
        self,
        args: Sequence[str],
        *,
        git_dir: Path | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
        held: Sequence[int] = (),
    ) -> bytes:
        """Run a git command that may contact this source, and only it; the host is checked now."""
        addresses = [] if self.source.is_local else check_host(self.source, resolver=self.resolver)
        with access(self.source, addresses) as (config, env):
            try:
                return git(
                    args,
                    timeout=self.seconds_left,
                    where=self.source.where,
                    git_dir=git_dir,
                    cwd=git_dir or Path("/"),
                    config=config,
                    env={**env, **self._sign_in()},
                    on_stderr=on_stderr,
                    held=held,
                    secrets=self._secrets,
                )
            except GitFailed as error:
                if not self.source.is_local and re.search(r"returned error: 30\d", error.stderr):
                    raise RepoUnavailable(self._redirection(config, env)) from error
                raise

    def _sign_in(self) -> dict[str, str]:
        if not self.token:
            return {}
        parts = urlsplit(self.source.url)
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {self._secrets[1]}",
        }

    @property
    def _secrets(self) -> tuple[str, ...]:
        """The token, and the form in which it is sent."""
        return (self.token, base64.b64encode(f"x-access-token:{self.token}".encode()).decode()) if self.token else ()

    def heads(self) -> Heads:
        """EmptyRepository when there is no branch. A HEAD that names none is answered with the likeliest branch."""
        listing = self.git(["ls-remote", "--symref", "--", self.source.url, "HEAD", "refs/heads/*"])
        named, detached = "", ""
        branches: dict[str, str] = {}
        for line in listing.decode(errors="surrogateescape").splitlines():
            value, _, ref = line.partition("\t")
            if ref == "HEAD" and value.startswith("ref: "):
                named = value.removeprefix("ref: refs/heads/")
            elif ref == "HEAD":
                detached = value
            elif ref.startswith("refs/heads/"):
                branches[ref.removeprefix("refs/heads/")] = value
        if not branches:
            raise EmptyRepository(f"{self.source.name} is empty. Push a first commit, then try again.")
        likely = [named, *(n for n in ("main", "master") if branches.get(n) == detached)]
        likely += [n for n, commit in branches.items() if commit == detached] + ["main", "master", *branches]
        return Heads(next(name for name in likely if name in branches), branches)

    def _redirection(self, config: dict[str, str], env: dict[str, str]) -> str:
        """Where a redirect leads. git does not say, so it is asked again and its trace is read; nothing is followed."""
        trace = ""
        try:
            git(
                ["ls-remote", "--", self.source.url, "HEAD"],
                timeout=self.seconds_left,
                where=self.source.where,
                config=config,
                env={**env, **self._sign_in(), "GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"},
                secrets=self._secrets,
            )
        except GitFailed as error:
            trace = error.stderr
        found = re.search(r"header: location: *(https?://\S+)", trace, re.IGNORECASE)
        new = re.sub(r"/info/refs(\?.*)?$", "", found[1])[:300] if found else "another address"
        return f"{self.source.url} redirects to {new}. If the repository lives there now, use that address."


def default_branch(source: Source, *, timeout: float, token: str = "", resolver: Resolver = socket.getaddrinfo) -> str:
    """The branch that a task starts from when the user names none. EmptyRepository, RepoUnavailable, SourceRefused."""
    return Remote(source, time.monotonic() + timeout, resolver, token).heads().default
