"""The commands, put together."""

from __future__ import annotations

import click

from asynccode.client import __version__, artifacts, changes, signing_in, working

CODES = """
Exit codes: 0 it went well; 1 a run did not succeed, or what was asked cannot be done; 2 the command is not right; 3 not signed in;
4 the server cannot be reached; 130 Ctrl-C.
"""


@click.group(epilog=CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def app() -> None:
    """One prompt, several coding agents: from your terminal, on an asynccode server."""


for command in (
    signing_in.login,
    signing_in.logout,
    signing_in.whoami,
    working.submit,
    working.list_tasks,
    working.watch,
    working.follow_up,
    working.cancel,
    changes.diff,
    changes.apply,
    changes.pr,
    artifacts.artifacts,
    changes.open_page,
):
    app.add_command(command)
