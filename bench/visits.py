"""The pages of a filled installation, visited one after the other: `python -m bench.visits TASKS FOLDER TRIES` in its environment.

Prints JSON: {"insert_s", "tasks", "runs", "events", "ms": {page: median milliseconds}, "queries": {page: number}, "periodic": {what:
median milliseconds}, "asked": {page: [seconds and statement]}}.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

import asynccode.asgi  # noqa: E402, F401 - so that this process is as a web server's is
from bench import world  # noqa: E402
from tasks import tokens  # noqa: E402
from tasks.models import Comment, CommentSide, Patch, Run, Scope, User  # noqa: E402
from tasks.review.diffs import anchor  # noqa: E402
from tasks.review.statistics import scores  # noqa: E402
from tasks.running import reconcile, scheduler  # noqa: E402
from tasks.web.activity import Endings  # noqa: E402
from tasks.web.consumers import RunConsumer, TaskConsumer, UserConsumer  # noqa: E402


def _part(target: str, trigger: str = "") -> dict[str, str]:
    return {"HX-Request": "true", "HX-Target": target, "HX-Trigger": trigger or target}


def _pages(made: world.World) -> dict[str, tuple[str, dict[str, str]]]:
    """Name → address and headers."""
    task, run = f"/tasks/{world.TASK}/", f"/runs/{made.long_run}/"
    _, short, commented = Run.objects.filter(task=world.TASK).order_by("pk").values_list("pk", flat=True)[:3]
    _comment(commented)
    path = _first_path(short)
    deep = made.tasks // 20
    plain = {
        "home": "/",
        "home_deep": f"/?before={deep}",
        **{f"home_{show}": f"/?show={show}" for show in ("working", "waiting", "done", "failed", "archived")},
        "home_repo": "/?in=3",
        "home_agent": "/?agent=gemini",
        "home_agent_failed": "/?agent=gemini&show=failed&in=3",
        "home_found": "/?q=bader",
        "home_found_two": "/?q=fix+bader",
        "home_found_rare": f"/?q={world.RARE}",
        "home_found_repo": "/?q=repo3",
        "home_found_nothing": "/?q=nowhere",
        "task": task,
        "run": f"/runs/{short}/",
        "run_long": run,
        "run_older": f"{run}?before=6000",
        "run_sheet": f"{run}events?before=6000",
        "run_event": f"{run}events/6000",
        "run_sandbox": f"{run}?tab=sandbox",
        "run_network": f"{run}?tab=network",
        "run_artifacts": f"{run}?tab=artifacts",
        "run_files": f"/runs/{short}/files/",
        "run_files_file": f"/runs/{short}/files/?path={path}",
        "compare": f"{task}compare/",
        "compare_file": f"{task}compare/file?file={anchor(path)}",
        "changes": f"/runs/{short}/changes/",
        "changes_turn": f"/runs/{short}/changes/?since=turn",
        "changes_commented": f"/runs/{commented}/changes/",
        "statistics": "/statistics/",
        "statistics_90": "/statistics/?days=90",
        "statistics_all": "/statistics/?days=all",
        "statistics_everybody": "/statistics/?days=all&of=all",
        "repos": "/repos/",
        "repo": "/repos/1/",
        "prompts": "/prompts/",
        "settings": "/settings/",
        "outgoing": "/settings/webhooks/",
        "metrics": "/metrics",
        "pick_repos": "/pick/repos?q=repo",
        "admin": "/admin/",
        "admin_runs": "/admin/tasks/run/",
        "admin_runs_failed": "/admin/tasks/run/?status__exact=failed",
        "admin_runs_page": f"/admin/tasks/run/?p={min(50, made.runs // 50)}",
        "admin_runs_agent": "/admin/tasks/run/?agent=gemini",
        "admin_runs_found": "/admin/tasks/run/?q=bader",
        "admin_run": f"/admin/tasks/run/{made.long_run}/change/",
        "admin_events": f"/admin/tasks/run/{made.long_run}/events/",
        "admin_events_kind": f"/admin/tasks/run/{made.long_run}/events/?kind=usage",
        "admin_tasks": "/admin/tasks/task/",
        "admin_tasks_found": "/admin/tasks/task/?q=bader",
        "admin_turns": "/admin/tasks/turn/",
        "admin_sandboxes": "/admin/tasks/sandbox/",
        "admin_patches": "/admin/tasks/patch/",
        "admin_pulls": "/admin/tasks/pullrequest/",
    }
    parts = {
        "home_rows": ("/", _part("tasks")),
        "home_older": (f"/?before={deep}", _part("older")),
        "task_part": (task, _part("cards")),
        "run_status": (f"/runs/{short}/", _part("status")),
        "run_work": (f"/runs/{short}/", _part("work")),
        "changes_news": (f"/runs/{short}/changes/?seen=x", _part("news")),
    }
    _, secret = tokens.create_token(user=User.objects.get(pk=1), name="bench", scope=Scope.READ, expires_in_days=7)
    by_token = {"Authorization": f"Bearer {secret}"}
    calls = {
        "api_tasks": "/api/v1/tasks",
        "api_tasks_found": "/api/v1/tasks?q=bader",
        "api_task": f"/api/v1/tasks/{world.TASK}",
        "api_runs": "/api/v1/runs",
        "api_events": f"/api/v1/runs/{made.long_run}/events?after=6000",
        "api_comparison": f"/api/v1/tasks/{world.TASK}/comparison",
        "api_pulls": "/api/v1/pull-requests",
        "api_usage": "/api/v1/usage",
    }
    every: dict[str, tuple[str, dict[str, str]]] = {name: (address, {}) for name, address in plain.items()}
    return every | parts | {name: (address, by_token) for name, address in calls.items()}


def _first_path(run: int) -> str:
    """The path of the first file that a run has changed."""
    return str(Patch.objects.filter(run=run).latest("pk").files[0]["path"])


def _comment(run: int) -> None:
    """Thirty comments on the changes of a run, of which ten are part of a review."""
    path = _first_path(run)
    Comment.objects.bulk_create(
        Comment(
            run_id=run, author_id=1, file=anchor(path), path=path, side=CommentSide.NEW, start_line=line, end_line=line + 2,
            blob="0" * 40, quote="x", body="Say *why*.", review="https://github.com/acme/repo1/pull/1" if line <= 10 else "",
        )
        for line in range(1, 31)
    )  # fmt: skip


def _visited(client: Client, address: str, headers: dict[str, str]) -> None:
    response = client.get(address, headers=headers)
    assert response.status_code == 200, f"{address}: {response.status_code} {response.content[:500]!r}"


def _measured(act: Callable[[], Any], times: int) -> tuple[float, list[dict[str, str]]]:
    """Median milliseconds, and what is asked of the database."""
    act()
    with CaptureQueriesContext(connection) as captured:
        act()
        asked = captured.captured_queries
    found = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found), asked


def _sockets(user: User, run: int) -> dict[str, Callable[[], Any]]:
    """What each open page's socket asks with every nudge, and every 15 s."""

    def news(kind: type, pk: int) -> Callable[[], Any]:
        def ask() -> None:
            consumer = kind()
            consumer.user, consumer._endings, consumer._seq = user, Endings(), 11_990
            consumer.scope = {"url_route": {"kwargs": {"pk": pk}}}
            consumer.groups_to_watch()
            consumer.news()

        return ask

    return {"news": news(UserConsumer, 0), "task_news": news(TaskConsumer, world.TASK), "run_news": news(RunConsumer, run)}


def _rolled_back(act: Callable[[], Any]) -> Callable[[], None]:
    """The deed without what it changes; nothing is enqueued either, since nothing is committed."""

    def wrapped() -> None:
        with transaction.atomic():
            act()
            transaction.set_rollback(True)

    return wrapped


def _periodic(user: User) -> dict[str, Callable[[], Any]]:
    def count(*, everybody: bool) -> Callable[[], Any]:
        return lambda: scores(user=user, everybody=everybody, days=None)

    return {
        "reconcile": _rolled_back(reconcile.reconcile),
        "dispatch": _rolled_back(scheduler.dispatch),
        "count_statistics": count(everybody=False),
        "count_statistics_everybody": count(everybody=True),
    }


def main(tasks: int, home: Path, tries: int) -> dict[str, Any]:
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    made = world.make(tasks, home)
    user = User.objects.get(pk=1)
    client = Client(SERVER_NAME="localhost")
    client.force_login(user)
    result: dict[str, Any] = {"insert_s": made.insert_s, "tasks": made.tasks, "runs": made.runs, "events": made.events}
    result |= {"ms": {}, "queries": {}, "periodic": {}, "asked": {}}

    def note(name: str, ms: float, asked: list[dict[str, str]]) -> None:
        result["ms"][name], result["queries"][name] = ms, len(asked)
        result["asked"][name] = [f"{query['time']} {query['sql']}" for query in asked]

    for name, (address, headers) in _pages(made).items():
        note(name, *_measured(lambda address=address, headers=headers: _visited(client, address, headers), tries))  # type: ignore[misc]
    for name, act in _sockets(user, made.long_run).items():
        note(name, *_measured(act, tries))
    for name, act in _periodic(user).items():
        ms, asked = _measured(act, tries)
        result["periodic"][name] = ms
        result["asked"][name] = [f"{query['time']} {query['sql']}" for query in asked]
    assert not settings.DEBUG
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
