"""What can go wrong, and the exit code that says it to scripts. Click prints the sentence and leaves with the code."""

from __future__ import annotations

from typing import IO, Any

import click

from asynccode.client.clean import clean


class Failure(click.ClickException):
    """What was asked cannot be done, or a run did not succeed."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(clean(self.message), file=file, err=True)


class Usage(Failure):
    """The command cannot be meant as it was written."""

    exit_code = 2


class NotSignedIn(Failure):
    """There is no token, or the server does not take it."""

    exit_code = 3


class Unreachable(Failure):
    """The server does not answer, or cannot just now."""

    exit_code = 4


class LeftAtWork(Failure):
    """Ctrl-C while a run was watched: the code of a program that was interrupted."""

    exit_code = 130
