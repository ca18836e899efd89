"""Runs as they go on: the conversation of one, a line for each of several. On a terminal the last lines are alive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from asynccode.client import conversation
from asynccode.client.api import Api
from asynccode.client.clean import line
from asynccode.client.conversation import DONE, STYLES, Conversation, figures, took
from asynccode.client.failures import LeftAtWork
from asynccode.client.following import PATIENCE_S, End, Event, Lost, follow
from asynccode.client.options import print_json

LOOK_S = 1.0
OVER = (*DONE, "waiting")


def watch_run(api: Api, run_id: int, *, after: int = 0, as_json: bool = False) -> bool:
    """Follow a run until it is over or waits; whether it went well."""
    with _left_at_work(f"Run {run_id} goes on", f"{run_id}"):
        run = api.get(f"/runs/{run_id}")
        if as_json:
            return _print_events(api, run_id, after)
        view = _RunView(api, run, already_s=0.0 if after else run["duration_s"] or 0.0)
        console = _console()
        if console.is_terminal:
            with Live(console=console, get_renderable=view.footer, refresh_per_second=8, transient=True):
                status = view.print_all(console, after)
        else:
            status = view.print_all(console, after)
        _print_end(console, api.get(f"/runs/{run_id}", patience=PATIENCE_S))
        return status in ("succeeded", "waiting")


def _print_events(api: Api, run_id: int, after: int) -> bool:
    for item in follow(api, run_id, after):
        match item:
            case Event(data):
                print_json(data)
            case End(status):
                print_json({"end": {"run": run_id, "status": status}})
                return status in ("succeeded", "waiting")
    raise AssertionError("what `follow` gives ends with End")


class _RunView:
    def __init__(self, api: Api, run: dict[str, Any], already_s: float) -> None:
        self._api, self._run = api, run
        self._conversation = Conversation()
        self._began = time.monotonic() - already_s
        self._spinner = Spinner("dots")
        self._lost = ""

    def print_all(self, console: Console, after: int) -> str:
        """Print what comes until the end; the run's status then."""
        turn = None
        for item in follow(self._api, self._run["id"], after):
            match item:
                case Event(event):
                    self._lost = ""
                    if event["turn"] not in (None, turn):
                        turn = event["turn"]
                        asked = self._api.get(f"/runs/{self._run['id']}/turns/{turn}", patience=PATIENCE_S)
                        _print(console, conversation.prompt(asked))
                    _print(console, self._conversation.lines(event))
                case Lost(why):
                    if not self._lost and not console.is_terminal:
                        console.print(Text(f"── the connection is lost ({line(why)}); trying again"))
                    self._lost = why
                case End(status):
                    _print(console, self._conversation.rest())
                    return status
        raise AssertionError("what `follow` gives ends with End")

    def footer(self) -> RenderableType:
        now, run = self._conversation, self._run
        status, stage = now.status or run["status"], now.stage or run["stage"]
        parts = [f"run {run['id']}", name_of(run), status, stage, took(time.monotonic() - self._began)]
        if status == "queued":
            parts.append(run["waits_for"])
        if now.tokens:
            parts.append(f"{now.tokens:,} tokens")
        if now.cost is not None:
            parts.append(f"${now.cost:.2f}")
        if self._lost:
            parts.append("the connection is lost; trying again")
        text = " · ".join(line(part) for part in parts if part)
        self._spinner.update(text=Text(text, style="red" if self._lost else "dim", no_wrap=True))
        return Group(Text(now.tail, style="dim"), self._spinner) if now.tail else self._spinner


def watch_task(api: Api, task_id: int, *, as_json: bool = False) -> bool:
    """Follow the runs of a task until all are over or wait, or the only one as `watch_run` does; whether one went well."""
    with _left_at_work(f"The runs of task {task_id} go on", f"task/{task_id}"):
        task = api.get(f"/tasks/{task_id}")
        if len(task["runs"]) == 1:
            return watch_run(api, task["runs"][0]["id"], as_json=as_json)
        console = _console()
        if console.is_terminal and not as_json:
            with Live(table_of(task["runs"]), console=console, refresh_per_second=4) as live:
                for now in _looks(api, task):
                    task = now
                    live.update(table_of(now["runs"]))
        else:
            seen: dict[int, str] = {}
            for now in _looks(api, task):
                task = now
                for run in now["runs"]:
                    if seen.get(run["id"]) != run["status"]:
                        seen[run["id"]] = run["status"]
                        print_json({"run": run["id"], "status": run["status"]}) if as_json else console.print(_line_of(run))
        return any(run["status"] in ("succeeded", "waiting") for run in task["runs"])


def _looks(api: Api, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The task as it stands, again and again until its runs are over. They are asked for, since streams are few."""
    while True:
        yield task
        if all(run["status"] in OVER for run in task["runs"]):
            return
        time.sleep(LOOK_S)
        task = api.get(f"/tasks/{task['id']}", patience=PATIENCE_S)


def table_of(runs: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("run", "agent", "status", "stage", "time", "changes", "cost"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for run in runs:
        status = Text(line(run["status"]), style=STYLES.get(run["status"], ""))
        stage = "" if run["status"] in OVER else run["waits_for"] or run["stage"]
        cost = "" if run["cost_usd"] is None else f"${run['cost_usd']:.2f}"
        changes = figures(run["patch"]) if run["patch"] else ""
        table.add_row(str(run["id"]), Text(name_of(run)), status, Text(line(stage)), took(run["duration_s"]), changes, cost)
    return table


def name_of(run: dict[str, Any]) -> str:
    """claude:opus #2"""
    model = f":{run['model']}" if run["model"] else ""
    return line(f"{run['agent']}{model}" + (f" #{run['attempt']}" if run["attempt"] > 1 else ""))


def _line_of(run: dict[str, Any]) -> Text:
    changes = f" · {figures(run['patch'])}" if run["patch"] else ""
    return Text(f"run {run['id']} · {name_of(run)} · {line(run['status'])}{changes}")


def _print_end(console: Console, run: dict[str, Any]) -> None:
    number, changes = run["id"], f" · {figures(run['patch'])}" if run["patch"] else ""
    console.print(Text(f"run {number} {line(run['status'])} · {took(run['duration_s'])}{changes}", style=STYLES.get(run["status"], "")))
    if run["patch"] and run["patch"]["files"]:
        console.print(Text(f"asynccode diff {number} · asynccode apply {number} · asynccode pr {number}", style="dim"))


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def _print(console: Console, lines: Iterator[Text]) -> None:
    for one in lines:
        console.print(one)


@contextmanager
def _left_at_work(what: str, reference: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        again = f"asynccode watch {reference} shows more, asynccode cancel {reference} stops it."
        raise LeftAtWork(f"{what}: {again}") from None
