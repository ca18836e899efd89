"""The verbs of a repository's servers of the Model Context Protocol, which its agents may use."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from sandboxes.base import NetworkMode, NetworkPolicy
from sandboxes.egress import HostError, Policy, PolicyError, PrivateHosts, Target, is_address, is_public, normalize
from tasks import dotenv
from tasks.environment import MOST_HOSTS
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import Repo, RepoMcpServer, User

MOST_SERVERS = 20  # of a repository
MOST_URL = 1000  # characters
MOST_COMMAND = 4000  # characters
MOST_ENV = 32_000  # characters of all variables of a server; a program takes 128 KiB in one argument, and Codex gets them so
MOST_ERRORS = 10  # of lines, said at once

_NAME = re.compile(r"[a-z0-9_-]{1,60}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_PORTS = {"https": 443, "http": 80}


def set_mcp_server(*, by: User, repo: Repo, name: str, url: str = "", command: str = "", env: str = "") -> RepoMcpServer:
    """Set a server, new or anew, for runs that start from now on: one at `url`, or one that `command` starts in the sandbox.

    `command` is a line as a shell has it, `env` lines of a .env file for it. InvalidInput ("name", "url", "command", "env").
    """
    _check_owner(repo, by)
    name, url, command = name.strip(), url.strip(), command.strip()
    if not _NAME.fullmatch(name):
        raise InvalidInput("A name has from 1 to 60 small letters, digits, - and _: issue-tracker.", field="name")
    if bool(url) == bool(command):
        raise InvalidInput("Give either a URL or a command.", field="url")
    if url and env.strip():
        raise InvalidInput("Variables are for a command. A server at a URL cannot have any.", field="env")
    if url:
        target(url)
    fields = {"url": url, "command": _words(command) if command else [], "env": _variables(env)}
    with transaction.atomic():
        Repo.objects.hold(repo.pk)
        theirs = RepoMcpServer.objects.filter(repo=repo)
        if not theirs.filter(name=name).exists() and theirs.count() >= MOST_SERVERS:
            raise Conflict(f"A repository has at most {MOST_SERVERS} servers. Remove one first.")
        server, _ = RepoMcpServer.objects.update_or_create(repo=repo, name=name, defaults=fields)
    return server


def remove_mcp_server(*, by: User, repo: Repo, name: str) -> bool:
    """Remove a server; False when there was none of that name."""
    _check_owner(repo, by)
    repo.check_present()
    deleted, _ = RepoMcpServer.objects.filter(repo=repo, name=name).delete()
    return deleted > 0


def allow_mcp_server(*, by: User, repo: Repo, name: str) -> str:
    """Add the host of the server's URL to the repository's network, unless it is allowed already; the host as it is written there."""
    _check_owner(repo, by)
    with transaction.atomic():
        held = Repo.objects.hold(repo.pk)
        server = RepoMcpServer.objects.filter(repo=repo, name=name).exclude(url="").first()
        if server is None:
            raise Conflict(f"There is no server {name} at a URL any more.")
        entry = missing_host(held, server)
        if not entry:
            return entry_of(server)
        if refusal := unreachable(server):
            raise Conflict(refusal)
        if len(held.network_hosts) >= MOST_HOSTS:
            raise Conflict(f"The repository's network has {MOST_HOSTS} hosts, as many as there may be. Remove some first.")
        Repo.objects.filter(pk=held.pk).update(network_hosts=[*held.network_hosts, entry])
    return entry


def missing_host(repo: Repo, server: RepoMcpServer) -> str:
    """What the repository's network lacks for this server, as a line of its hosts; "" when it reaches it, or needs no network."""
    if not server.url:
        return ""
    policy, private = Policy.of(repo.network_policy), PrivateHosts(settings.ALLOW_PRIVATE_HOSTS)
    try:
        policy.check(target(server.url), _usual_port(server.url), private)
    except PolicyError:
        return entry_of(server)
    return ""


def unreachable(server: RepoMcpServer) -> str:
    """Why no line of the repository's hosts would let sandboxes reach this server; "" when one would."""
    policy, private = Policy.of(NetworkPolicy(NetworkMode.NONE, (entry_of(server),))), PrivateHosts(settings.ALLOW_PRIVATE_HOSTS)
    try:
        policy.check(target(server.url), _usual_port(server.url), private)
    except PolicyError as error:
        return str(error)
    return ""


def entry_of(server: RepoMcpServer) -> str:
    """The server's host as a line of the repository's hosts."""
    there = target(server.url)
    bracketed = f"[{there.host}]" if ":" in there.host else there.host
    return bracketed if there.port == 443 else str(there)


def target(url: str) -> Target:
    """Where a server is; InvalidInput ("url") for what cannot be one's address."""
    if len(url) > MOST_URL:
        raise InvalidInput(f"The URL has {len(url):,} characters; {MOST_URL:,} are the most.", field="url")
    if not url.isprintable() or " " in url:
        raise InvalidInput("A URL has no spaces or invisible characters in it.", field="url")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        where = Target(normalize(f"[{host}]" if ":" in host else host), port or _PORTS.get(scheme, 443))
    except HostError as error:
        raise InvalidInput(str(error), field="url") from None
    except ValueError:
        raise InvalidInput("This is no URL. Write https://example.org/mcp", field="url") from None
    if scheme not in _PORTS:
        raise InvalidInput("The URL begins with https://", field="url")
    if "@" in parts.netloc:
        raise InvalidInput("The URL has a user name in it; agents could read it, and so could their models. Leave it out.", field="url")
    if parts.fragment:
        raise InvalidInput("The URL has a # in it, and what follows is never sent. Leave it out.", field="url")
    if where not in PrivateHosts(settings.ALLOW_PRIVATE_HOSTS):
        if scheme == "http":
            raise InvalidInput("The URL begins with https://; an operator can allow others in ALLOW_PRIVATE_HOSTS.", field="url")
        if where.host == "localhost" or where.host.endswith(".localhost") or (is_address(where.host) and not is_public(where.host)):
            raise InvalidInput("Sandboxes reach only the public internet, and this is a private address.", field="url")
    return where


def command_line(command: Sequence[str]) -> str:
    """A command as it was typed, or in other quotes."""
    return shlex.join(command)


def env_lines(env: Mapping[str, str]) -> str:
    """Variables as lines of a .env file, which give the same again."""
    return "\n".join(f"{name}={_quoted(value)}" for name, value in env.items())


def _quoted(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_./:@%+,-]*", value):
        return value
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r")
    return f'"{escaped}"'


def _words(command: str) -> list[str]:
    if len(command) > MOST_COMMAND:
        raise InvalidInput(f"The command has {len(command):,} characters; {MOST_COMMAND:,} are the most.", field="command")
    if "\0" in command or "\n" in command or "\r" in command:
        raise InvalidInput("A command is one line.", field="command")
    try:
        words = shlex.split(command)
    except ValueError:
        raise InvalidInput("A quote is not closed, or nothing follows the last backslash.", field="command") from None
    if not words or not words[0]:
        raise InvalidInput("The command names no program.", field="command")
    return words


def _variables(text: str) -> dict[str, str]:
    if len(text) > MOST_ENV:
        raise InvalidInput(f"The variables have {len(text):,} characters; {MOST_ENV:,} are the most.", field="env")
    found, wrong = dotenv.parse(text), []
    for entry in found:
        if not entry.error and not _VARIABLE.fullmatch(entry.name):
            entry.error = "A name has letters, digits and underscores, and does not begin with a digit."
        if not entry.error and "\0" in entry.value:
            entry.error = "There is a NUL character in the value."
        if entry.error:
            wrong.append(f"Line {entry.line}: {entry.error}")
    if wrong:
        more = [f"{len(wrong) - MOST_ERRORS} more lines are wrong."] if len(wrong) > MOST_ERRORS else []
        raise InvalidInput("\n".join([*wrong[:MOST_ERRORS], *more]), field="env")
    return {entry.name: entry.value for entry in found}


def _usual_port(url: str) -> int:
    return _PORTS[urlsplit(url).scheme]


def _check_owner(repo: Repo, by: User) -> None:
    if repo.owner_id != by.pk:
        raise NotAllowed("This repository belongs to somebody else.")
