"""artifacts: what a run left beside its patch, listed and brought here. Its names are an agent's, and never lead out of the folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click

from asynccode.client.api import Api
from asynccode.client.clean import line
from asynccode.client.failures import Failure, Unreachable
from asynccode.client.options import AS_JSON, RUN, Ref, print_json, signed_in

_REASONS = {"size": "too large", "total": "too much of a run", "count": "too many files of a run", "unreadable": "could not be read"}


@click.command()
@click.argument("run", type=RUN)
@click.option("--download", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write them into this folder.")
@AS_JSON
@signed_in
def artifacts(api: Api, run: Ref, folder: Path | None, as_json: bool) -> None:
    """List what a run left in its folder artifacts/, or bring it here. Nothing that is here already is written over."""
    found = api.get(f"/runs/{run.id}/artifacts")["items"]
    if as_json:
        print_json(found)
    for artifact in found:
        if not as_json and artifact["sha256"]:
            click.echo(f"{artifact['size']:>10}  {line(artifact['path'])}")
        _warn(artifact)
    if folder is not None:
        _bring(api, run.id, [artifact for artifact in found if artifact["sha256"]], folder)


def _warn(artifact: dict[str, Any]) -> None:
    name = line(artifact["path"])
    if why := artifact["left_out"]:
        click.echo(f"Not kept{' as it was last' if artifact['sha256'] else ''}: {name} ({_REASONS.get(why, line(why))}).", err=True)
    if artifact["secrets_found"]:
        click.echo(f"{name} holds the value of {line(', '.join(artifact['secrets_found']))}.", err=True)


def _bring(api: Api, run: int, found: list[dict[str, Any]], folder: Path) -> None:
    """Write all that can be written; Failure names what could not."""
    refused = []
    for artifact in found:
        answer = api.download(f"/runs/{run}/artifacts/{int(artifact['id'])}/content")
        if hashlib.sha256(answer.content).hexdigest() != artifact["sha256"]:
            raise Unreachable(f"{line(artifact['path'])} came damaged. Try again.")
        if why := write(folder, artifact["path"], answer.content):
            refused.append(f"{line(artifact['path'])} was not written: {why}.")
    if refused:
        raise Failure("\n".join(refused))


def write(folder: Path, path: str, content: bytes) -> str:
    """Why a file cannot be written below a folder; "" when it was.

    Where its folder really is, is asked before it is made, and the file itself must be new: so neither its name nor a link that lies
    there already leads elsewhere. The folder may be a checkout, so nothing is put where git would heed it.
    """
    target = folder / path
    if any(part.casefold() == ".git" for part in Path(path).parts):
        return "it would be git's"
    try:
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            return "it would lie outside of the folder"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return "something of that name is there already"
    except (OSError, ValueError) as error:  # (ValueError: a NUL in it)
        return getattr(error, "strerror", "") or str(error)
    return ""
