"""submit, list, watch, follow-up, cancel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asynccode.client import watching
from asynccode.client.api import Api
from asynccode.client.checkout import Checkout
from asynccode.client.clean import line
from asynccode.client.failures import Failure, Usage
from asynccode.client.options import AS_JSON, KEY, RUN, RUN_OR_TASK, Ref, print_json, read_prompt, signed_in

MODE = click.option("--mode", type=click.Choice(["code", "plan", "ask"]), help="plan and ask change nothing.")
WATCH = click.option("--watch", is_flag=True, help="Follow it until it is over; the exit code says how it went.")


@click.command()
@click.argument("prompt")
@click.option("--agent", "agents", multiple=True, metavar="NAME[:MODEL]", help="Who is to do it; may be repeated.")
@click.option("--attempts", type=click.IntRange(1), default=1, show_default=True, help="Runs of each agent.")
@click.option("--repo", metavar="URL|ID", help="The repository; otherwise that of the current checkout.")
@click.option("--branch", default="", help="The branch to begin from; otherwise the repository's default.")
@click.option("--attach", "files", multiple=True, metavar="FILE", help="A file that the agents get with the prompt; may be repeated.")
@click.option("--add-repo", is_flag=True, help="Let the server add the repository if it does not know it.")
@MODE
@WATCH
@AS_JSON
@KEY
@signed_in
def submit(
    api: Api,
    prompt: str,
    agents: tuple[str, ...],
    attempts: int,
    repo: str | None,
    branch: str,
    files: tuple[str, ...],
    add_repo: bool,
    mode: str | None,
    watch: bool,
    as_json: bool,
    key: str,
) -> None:
    """Give a task to agents: PROMPT is a text, @file, or - for the standard input."""
    said = read_prompt(prompt)
    attached = [_read(Path(file)) for file in files]
    if not agents:
        usable = [line(agent["name"]) for agent in api.get("/agents")["items"] if agent["is_usable"]]
        raise Usage(f"Say who is to do it with --agent. You can use: {', '.join(usable) or 'none yet; the server needs a key'}.")
    chosen = [{"agent": name, "model": model, "attempts": attempts} for name, _, model in (agent.partition(":") for agent in agents)]
    body = {"repo": _repo(api, repo, add_repo), "prompt": said, "agents": chosen, "branch": branch, "mode": mode or "code"}
    if attached:
        body["attachments"] = [_upload(api, *file, key and f"{key}/{number}") for number, file in enumerate(attached)]
    task = api.post("/tasks", body, key=key)
    if as_json:
        print_json(task)
    else:
        click.echo(f"task/{task['id']}: {line(task['title'])}\n{line(task['url'])}")
        for run in task["runs"]:
            click.echo(f"run {run['id']}: {watching.name_of(run)}")
    if watch:
        _leave(watching.watch_task(api, task["id"], as_json=as_json))


def _read(path: Path) -> tuple[str, bytes]:
    """A file's own name, and what is in it."""
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise Usage(f"A file cannot be attached: {error}") from error


def _upload(api: Api, name: str, content: bytes, key: str) -> int:
    """The server's id of a file."""
    return int(api.upload("/attachments", name, content, key=key)["id"])


def _repo(api: Api, asked: str | None, adds: bool) -> int:
    """The server's id of a repository, which `adds` lets it add first."""
    if asked and asked.isascii() and asked.isdigit():
        return int(asked)
    sources = [asked] if asked else _own_sources()
    for source in sources:
        if (known := _known(api, source)) is not None:
            return known
    source = web_address(sources[0])
    if adds:
        return int(api.post("/repos", {"source": source})["id"])
    raise Failure(f"{api.server} does not know {source}. Let it be added with --add-repo, or name another with --repo.")


def _own_sources() -> list[str]:
    """What the server may know the current checkout by: where it came from, or the folder itself, if the server is on this machine."""
    if (checkout := Checkout.here()) is None:
        raise Usage("This is no git checkout. Go to one, or name the repository with --repo.")
    return [source for source in (checkout.origin, str(checkout.root)) if source]


def _known(api: Api, source: str) -> int | None:
    wanted = _normal(source)
    name = wanted.rstrip("/").rpartition("/")[2]
    page = api.get("/repos", q=name, limit=100)
    while True:
        for repo in page["items"]:
            if _normal(repo["source"]) == wanted:
                return int(repo["id"])
        if page["next"] is None:
            return None
        page = api.get("/repos?" + urlsplit(page["next"]).query)


def _normal(source: str) -> str:
    address = web_address(source).rstrip("/").removesuffix("/.git").removesuffix(".git")
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{separator}{host.lower()}{slash}{path}" if separator else address


def web_address(source: str) -> str:
    """The https address of what ssh reaches (git@github.com:acme/shop.git), without a user's name or token; others as they are."""
    if found := re.fullmatch(r"(?:ssh://)?(?:[^/@\s]+@)([^/:\s]+)(?::\d+(?=/))?[:/]/?(\S+)", source):
        return f"https://{found[1]}/{found[2]}"
    return re.sub(r"^(https?://)[^/@]*@", r"\1", source)


@click.command("list")
@click.option("--state", type=click.Choice(["working", "waiting", "done", "failed"]), help="Where their runs stand.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many at most.")
@AS_JSON
@signed_in
def list_tasks(api: Api, state: str | None, limit: int, as_json: bool) -> None:
    """List your tasks with their runs, newest first."""
    query = f"&state={state}" if state else ""
    tasks = api.get(f"/tasks?limit={limit}{query}")["items"]
    if as_json:
        print_json(tasks)
        return
    rows = [(f"task/{task['id']}", line(task["repo"]["name"]), line(task["title"]), _runs(task)) for task in tasks]
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        for row in rows:
            click.echo("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("task", "repository", "title", "runs"):
        table.add_column(heading, no_wrap=heading == "task", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _runs(task: dict[str, Any]) -> str:
    return ", ".join(f"{run['id']} {watching.name_of(run)} {line(run['status'])}" for run in task["runs"])


@click.command()
@click.argument("what", type=RUN_OR_TASK)
@AS_JSON
@signed_in
def watch(api: Api, what: Ref, as_json: bool) -> None:
    """Follow a run, or all runs of a task, until they are over or wait for you. Ctrl-C stops watching, not them."""
    watched = watching.watch_run if what.kind == "run" else watching.watch_task
    _leave(watched(api, what.id, as_json=as_json))


@click.command("follow-up")
@click.argument("run", type=RUN)
@click.argument("prompt")
@click.option("--urgent", is_flag=True, help="Do not let it wait for the turn at work.")
@MODE
@WATCH
@KEY
@signed_in
def follow_up(api: Api, run: Ref, prompt: str, urgent: bool, mode: str | None, watch: bool, key: str) -> None:
    """Ask the agent of a run for more: PROMPT is a text, @file, or - for the standard input."""
    said = read_prompt(prompt)
    after = api.get(f"/runs/{run.id}")["events"]
    turn = api.post(f"/runs/{run.id}/turns", {"prompt": said, "mode": mode, "is_urgent": urgent}, key=key)
    click.echo(f"run {run.id}: turn {turn['number']}")
    if watch:
        _leave(watching.watch_run(api, run.id, after=after))


@click.command()
@click.argument("what", type=RUN_OR_TASK)
@signed_in
def cancel(api: Api, what: Ref) -> None:
    """Stop a run, or all runs of a task. What was changed is kept."""
    answer = api.post(f"/{what.kind}s/{what.id}/stop")
    for run in [answer] if what.kind == "run" else answer["runs"]:
        click.echo(f"run {run['id']}: {'stopping' if run['is_stopping'] else line(run['status'])}")


def _leave(went_well: bool) -> None:
    if not went_well:
        raise SystemExit(1)
