"""diff, apply, pr, open: what a run has changed, and where it goes."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
import webbrowser
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import click

from asynccode.client.api import Api
from asynccode.client.checkout import Checkout, Conflict
from asynccode.client.clean import clean, line
from asynccode.client.conversation import figures
from asynccode.client.failures import Failure, Unreachable
from asynccode.client.options import RUN, RUN_OR_TASK, Ref, signed_in

LOOK_S = 1.0
MOST_LOOKS = 600
MOST_NAMED = 20
_STYLES: Mapping[str, dict[str, Any]] = {"@": {"fg": "cyan"}, "+": {"fg": "green"}, "-": {"fg": "red"}}


@click.command()
@click.argument("run", type=RUN)
@click.option("--stat", is_flag=True, help="Only which files, and how much.")
@signed_in
def diff(api: Api, run: Ref, stat: bool) -> None:
    """Show what a run has changed since its base commit. Piped, it is the patch byte for byte, ready for git apply."""
    if stat:
        _print_stat(api, run.id)
        return
    patch = _patch(api, run.id)
    if not sys.stdout.isatty():
        click.echo(patch, nl=False)
    elif patch:
        has_color = "NO_COLOR" not in os.environ
        os.environ.setdefault("LESS", "FRX")  # as git does: what fits on a screen is simply written there
        text = clean(patch.decode(errors="replace").removesuffix("\n"))
        click.echo_via_pager("\n".join(_colored(text.split("\n"))) if has_color else text, color=has_color)


def _colored(lines: Iterable[str]) -> Iterator[str]:
    is_head = False
    for text in lines:
        is_head = text.startswith("diff --git ") or (is_head and not text.startswith("@@"))
        style = {"bold": True} if is_head else _STYLES.get(text[:1])
        yield click.style(text, **style) if style else text


def _patch(api: Api, run: int) -> bytes:
    """The newest patch of a run, whole."""
    answer = api.download(f"/runs/{run}/patch")
    if answer.headers.get("ETag", "") != f'"{hashlib.sha256(answer.content).hexdigest()}"':
        raise Unreachable("The patch came damaged. Try again.")
    return answer.content


def _print_stat(api: Api, run: int) -> None:
    newest = _described(api, run)
    for file in newest["files"]:
        name = line(file["path"]) + (f" (was {line(file['old_path'])})" if file["state"] == "renamed" else "")
        count = "binary" if file["is_binary"] else f"+{file['additions']} −{file['deletions']}"
        click.echo(f"{line(file['state']):9} {count:>12}  {name}")
    click.echo(_figures(newest))
    _warn(newest)


def _described(api: Api, run: int) -> dict[str, Any]:
    """The newest patch of a run, as schemas.Patch of the API."""
    patches = api.get(f"/runs/{run}/patches")["items"]
    if not patches:
        raise Failure(f"Run {run} has no patch yet.")
    return dict(patches[0])


def _figures(patch: dict[str, Any]) -> str:
    return figures({**patch, "files": len(patch["files"])})


def _warn(patch: dict[str, Any]) -> None:
    left_out = patch["left_out"]
    for left in left_out[:MOST_NAMED]:
        why = "over the size limit for one file" if left["reason"] == "size" else line(left["reason"])
        click.echo(f"Not in the patch: {line(left['path'])} ({why}).", err=True)
    if len(left_out) > MOST_NAMED:
        click.echo(f"Not in the patch: {len(left_out) - MOST_NAMED} more.", err=True)
    if patch["secrets_found"]:
        click.echo(f"The patch holds the value of {line(', '.join(patch['secrets_found']))}.", err=True)


@click.command()
@click.argument("run", type=RUN)
@click.option("--branch", default="", metavar="NAME", help="Make this branch at the run's base commit, and apply it there.")
@click.option("--force", is_flag=True, help="Also onto changes of your own that are not committed.")
@signed_in
def apply(api: Api, run: Ref, branch: str, force: bool) -> None:
    """Put what a run has changed into the current checkout and its index: all of it, or nothing."""
    if (checkout := Checkout.here()) is None:
        raise Failure("This is no git checkout. Go to the one that the changes belong to.")
    if (changed := checkout.changed) and not force:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        said = f"There are changes that are not committed ({', '.join(changed[:3])}{more})."
        raise Failure(f"{said} Commit or stash them first, or apply onto them with --force.")
    shown = api.get(f"/runs/{run.id}")
    base = str(api.get(f"/tasks/{shown['task']}")["base_commit"])
    patch = _patch(api, run.id)
    if not patch:
        click.echo(f"Run {run.id} has changed nothing.")
        return
    described = _described(api, run.id)
    _apply(checkout, run.id, patch, base, branch)
    where = f" on the new branch {branch}" if branch else ""
    click.echo(f"Applied{where}: {_figures(described)}. git diff --cached shows it, git commit keeps it.")
    _warn(described)
    if described["kind"] != "final":
        click.echo("The agent is still at work; there may be more later.", err=True)


def _apply(checkout: Checkout, run: int, patch: bytes, base: str, branch: str) -> None:
    is_commit = re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", base) is not None
    is_known = is_commit and checkout.has_commit(base)
    unknown = f"This checkout does not have the commit that the run began from ({base[:12]}). Do: git fetch origin"
    if branch:
        if not is_known:
            raise Failure(unknown)
        checkout.apply_on_branch(patch, branch, base)
        return
    try:
        checkout.apply(patch)
    except Conflict as error:
        aside = f"asynccode apply {run} --branch NAME puts it on a branch of its own, to be merged with git merge."
        raise Conflict(f"{error.message}\n{aside if is_known else unknown}") from error


@click.command()
@click.argument("run", type=RUN)
@click.option("--title", default="", help="Otherwise the task's.")
@click.option("--base", default="", metavar="BRANCH", help="Where it is to go into; otherwise the branch that the task began from.")
@click.option("--draft", is_flag=True, help="Open it as a draft.")
@click.option("--allow-secrets", is_flag=True, help="Publish it although it holds values of the repository's secrets.")
@signed_in
def pr(api: Api, run: Ref, title: str, base: str, draft: bool, allow_secrets: bool) -> None:
    """Make what a run has changed a pull request on GitHub, or bring it into the one that there is."""
    body = {"title": title, "base": base, "is_draft": draft, "allows_secrets": allow_secrets}
    state = api.post(f"/runs/{run.id}/pull-request", body)
    for _ in range(MOST_LOOKS):
        if not state["is_at_work"]:
            break
        time.sleep(LOOK_S)
        state = api.get(f"/runs/{run.id}/pull-request")
    for refused in state["refused"]:
        click.echo(line(refused), err=True)
    if state["is_at_work"]:
        raise Failure(f"It is not open after {MOST_LOOKS * LOOK_S / 60:.0f} minutes, and still at work. See: asynccode open {run.id}")
    if state["error"] or state["pull_request"] is None:
        conflicts = "".join(f"\n  {line(conflict['path'])}" for conflict in state["conflicts"])
        raise Failure((state["error"] or "There is no pull request.") + conflicts)
    click.echo(line(state["pull_request"]["url"]))


@click.command("open")
@click.argument("what", type=RUN_OR_TASK)
@signed_in
def open_page(api: Api, what: Ref) -> None:
    """Open the page of a run or a task in the browser, and print its address."""
    path = urlsplit(str(api.get(f"/{what.kind}s/{what.id}")["url"])).path
    parts = urlsplit(api.server)
    address = f"{parts.scheme}://{parts.netloc}{path}"
    click.echo(line(address))
    webbrowser.open(address)
