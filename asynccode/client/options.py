"""What the commands share: which server and token, which run or task, in which form."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from asynccode.client.api import Api
from asynccode.client.credentials import Credentials, server_of
from asynccode.client.failures import NotSignedIn, Usage

Command = Callable[..., None]
SERVER = click.option("--server", metavar="URL", envvar="ASYNCCODE_URL", help="Another server than that of the last login.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
KEY = click.option("--idempotency-key", "key", default="", metavar="TEXT", help="Commands with the same key count once within a day.")

_PAGE = re.compile(r"(https?://.*?)/(run|task)s/([1-9][0-9]{0,14})(?:[/?#].*)?")
_SHORT = re.compile(r"(?:(run|task)s?/)?#?([1-9][0-9]{0,14})")


@dataclass(frozen=True)
class Ref:
    """A run or a task; `server` is that of its address, if it was named by that."""

    kind: str
    id: int
    server: str = ""


class RefType(click.ParamType[Ref]):
    """12, run/12 and task/12 (where a task will do), or the address of its page."""

    name = "reference"

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "RUN" if self.kinds == ("run",) else "RUN|task/TASK"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Ref:
        if found := _PAGE.fullmatch(str(value)):
            server, kind, number = server_of(found[1]), found[2], found[3]
        elif found := _SHORT.fullmatch(str(value)):
            server, kind, number = "", found[1] or "run", found[2]
        else:
            self.fail(f"{value} names no run. Give its number, or the address of its page.", param, ctx)
        if kind not in self.kinds:
            self.fail(f"{value} is a task. Give one of its runs: asynccode list shows them.", param, ctx)
        return Ref(kind, int(number), server)


RUN = RefType("run")
RUN_OR_TASK = RefType("run", "task")


def signed_in(command: Command) -> Command:
    """A command that asks a server: it gets an `api`."""

    @SERVER
    @wraps(command)
    def wrapped(server: str | None, **named: Any) -> None:
        address = next((value.server for value in named.values() if isinstance(value, Ref)), "")
        with _connect(server or "", address) as api:
            command(api=api, **named)

    return wrapped


def _connect(server: str, address: str) -> Api:
    """The server that is meant: that of a page's address, else the one that was named, else that of the last login. It is asked with the
    token that is kept for it; ASYNCCODE_TOKEN comes first, but goes to no server that only an address names."""
    credentials = Credentials.load()
    own = server_of(server) if server else credentials.default
    meant = address or own
    if not meant:
        raise NotSignedIn("You are not signed in to any server. Do: asynccode login URL")
    given = os.environ.get("ASYNCCODE_TOKEN", "") if meant == own else ""
    if not (token := given or credentials.tokens.get(meant, "")):
        raise NotSignedIn(f"You are not signed in at {meant}. Do: asynccode login {meant}")
    return Api(meant, token)


def read_prompt(text: str) -> str:
    """A prompt as it is given: itself, `@file`, or `-` for the standard input."""
    if text == "-":
        said = sys.stdin.read()
    elif text.startswith("@"):
        try:
            with open(text[1:], encoding="utf-8") as file:
                said = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"The prompt cannot be read: {error}") from error
    else:
        said = text
    if not said.strip():
        raise Usage("The prompt is empty. Give it as a text, as @file, or as - to read it from the standard input.")
    return said


def print_json(value: Any) -> None:
    """On one line, and in ASCII, so that no terminal obeys any of it."""
    click.echo(json.dumps(value, separators=(",", ":")))
