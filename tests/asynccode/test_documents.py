"""What the documents name exists: pages and their headings, files, commands with their options, targets of make, variables."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path

import click
import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class

from agents.registry import ADAPTERS
from asynccode.client.main import app

ROOT: Path = settings.BASE_DIR
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
ROOMS = ("asynccode", "tasks", "agents", "sandboxes", "tests", "scripts", "static", "templates", "docs", "bench")
# Not settings: what programs of all kinds heed, what the kernel and compose.yaml name, what a sandbox has, what a test and the client read.
OTHER_VARIABLES = {
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "XDG_CONFIG_HOME", "RLIMIT_NPROC"),
    *("AF_NETLINK", "POSTGRES_PASSWORD"),
    *("ASYNCCODE_ARTIFACTS", "ASYNCCODE_ATTACHMENTS", "ASYNCCODE_URL", "ASYNCCODE_TOKEN", "UPDATE_GOLDEN"),
}
OTHER_OPTIONS = {"--no-sandbox", "--security-opt", "--no-buffer"}  # of Chromium, of Docker, of curl
OUR_COMMANDS = [name for name, application in get_commands().items() if application in ("asynccode", "tasks")]
PLACEHOLDERS = dict.fromkeys(("RUN", "RUN_ID", "N", "MB"), "1")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(text: str) -> str:
    """The lines of all fenced blocks; one that ends in a backslash goes on in the next."""
    return "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def inline(text: str) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def anchors(text: str) -> set[str]:
    """Those of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_anchors_are_as_github_makes_them() -> None:
    assert anchors("# Who's there?\n\n```\n# no heading\n```\n\n## `a_b` and C: d\n") == {"whos-there", "a_b-and-c-d"}


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_each_picture_is_shown_somewhere_and_small() -> None:
    shown = {Path(link).name for document in DOCUMENTS for link in re.findall(r"!\[[^]]{20,}\]\((\S+)\)", document.read_text())}
    pictures = list((ROOT / "docs/images").iterdir())
    assert {picture.name for picture in pictures} == shown
    assert max(picture.stat().st_size for picture in pictures) < 200_000


@pytest.fixture(scope="module")
def files() -> list[str]:
    """All files and folders of ours, from the checkout on."""
    found = [path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room, *(ROOT / room).rglob("*"))]
    return [f"/{path}" for path in (Path("manage.py"), *found)]


@every_document
def test_files_are_where_they_are_said_to_be(document: Path, files: list[str]) -> None:
    """ARCHITECTURE.md leaves out the room where it speaks of one only."""
    for code in inline(document.read_text()):
        named = re.match(rf"(?:(?:{'|'.join(ROOMS)})/[\w./*-]*|[\w/*-]+\.py\b)", code)
        if named and not re.search(r"NAME|<", code):
            assert any(fnmatch(file, f"*/{named[0].rstrip('/')}") for file in files), code


@every_document
def test_variables_are_those_that_are_read(document: Path) -> None:
    known = set(re.findall(r"^#([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M)) | OTHER_VARIABLES | set(PLACEHOLDERS)
    named = [name for code in inline(document.read_text()) for name in re.findall(r"(?<![\w/])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", code)]
    assert set(named) <= known


@every_document
def test_targets_of_make_are_there(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    text = document.read_text()
    named = re.findall(r"^make ([a-z]\S*)", "\n".join([blocks(text), *inline(text)]), re.M)
    assert set(named) <= targets


def words(line: str, program: str) -> list[str] | None:
    """What follows `program` in a line of a shell, up to where another command begins; None: it is not in it."""
    if program not in line:
        return None
    lexer = shlex.shlex(line.translate({ord(mark): None for mark in "[]…"}), posix=True, punctuation_chars=True)  # drops comments
    lexer.whitespace_split = True
    given = list(lexer)
    at = next((n for n, word in enumerate(given) if word == program or word.endswith(f"/{program}")), None)
    if at is None:
        return None
    return [PLACEHOLDERS.get(word, word) for word in takewhile(lambda word: not set(word) <= set("|&;<>()"), given[at + 1 :])]


@pytest.mark.parametrize(
    ("line", "is_there"),
    [
        ("manage.py patch RUN | git apply --index", ["patch", "1"]),
        ("$ manage.py create_test_user --ttl 1h", ["create_test_user", "--ttl", "1h"]),
        ('manage.py submit --prompt "a b"   # and so on', ["submit", "--prompt", "a b"]),
        ("echo managed.py  # and manage.py", None),
        ("manage.py open-pr RUN_ID [--draft]", ["open-pr", "1", "--draft"]),
    ],
)
def test_a_line_is_taken_apart_as_a_shell_does(line: str, is_there: list[str] | None) -> None:
    assert words(line, "manage.py") == is_there


def parser_of(command: str) -> argparse.ArgumentParser:
    application = get_commands()[command]
    found = application if not isinstance(application, str) else load_command_class(application, command)
    return found.create_parser("manage.py", command)


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Its own and those of its subcommands, which count as options, too."""
    yield from parser._option_string_actions
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield name
                yield from options_of(below)


@every_document
def test_commands_of_the_server_are_there(document: Path) -> None:
    text = document.read_text()
    for line in blocks(text).splitlines():
        if given := words(line, "manage.py"):
            parser_of(given[0]).parse_args(given[1:])  # ends the test with what is wrong
    for code in inline(text):
        if (given := words(code, "manage.py")) and given[0] not in ("X", "COMMAND"):
            options = {word.partition("=")[0] for word in given[1:] if word.startswith("--")}
            assert options <= set(options_of(parser_of(given[0]))), code


@every_document
def test_models_are_those_that_agents_have(document: Path) -> None:
    text = document.read_text()
    for agent, model in re.findall(rf"\b({'|'.join(ADAPTERS)}):([\w./-]+)", "\n".join([blocks(text), *inline(text)])):
        assert model in {known.name for known in ADAPTERS[agent].models}


def client(name: str) -> click.Command:
    return app.commands[name]


@every_document
def test_commands_of_the_client_are_there(document: Path) -> None:
    text = document.read_text()
    for line in blocks(text).splitlines():
        if re.match(r"\$? *asynccode ", line) and (given := words(line, "asynccode")):
            client(given[0]).make_context(given[0], given[1:])
    for code in inline(text):
        given = words(code, "asynccode")
        if code.startswith("asynccode ") and given and not given[0].startswith("--"):
            known = {option for parameter in client(given[0]).params for option in parameter.opts}
            assert {word for word in given[1:] if word.startswith("--")} <= known, code


@every_document
def test_options_that_stand_alone_are_those_of_some_command(document: Path) -> None:
    """Those of the client on its own page."""
    known = {option for command in app.commands.values() for parameter in command.params for option in parameter.opts}
    if document.name != "client.md":
        known |= OTHER_OPTIONS | {option for command in OUR_COMMANDS for option in options_of(parser_of(command))}
    named = {re.split(r"[ =]", code)[0] for code in inline(document.read_text()) if code.startswith("--")}
    assert named <= known
