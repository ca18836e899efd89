"""Every view asks the database a bounded number of times, however much there is. A view that is not named here fails the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver, reverse
from django.utils import timezone
from pytest_django import Settings

from tasks.models import (
    ApiToken,
    Artifact,
    Attachment,
    Check,
    Comment,
    Credential,
    Event,
    GitHubAccount,
    OutgoingDelivery,
    OutgoingWebhook,
    Patch,
    PreparedEnvironment,
    Preset,
    PromptTemplate,
    Publication,
    PullRequest,
    Repo,
    Run,
    Task,
    Turn,
    User,
)
from tasks.running import events
from tasks.web.log import MOST_EVENTS
from tasks.web.urls import urlpatterns

pytestmark = pytest.mark.django_db
MOST_TO_SHOW = 25  # a full page of a log comes in six handfuls
MOST_OF = {"home": 12}  # to show a page that is held to the goal of `manage.py bench pages`
MOST_TO_DO = 40  # savepoints, locks and the row of each event among them
STATUSES = ("succeeded", "failed", "errored", "canceled", "interrupted", "waiting", "queued", "running")


class World:
    """What belongs to one user. `grow` makes more of everything; `task` grows too, `small` is a task that does not."""

    def __init__(self, owner: User, make_task: Callable[..., Task], make_run: Callable[..., Run]) -> None:
        self.owner, self.make_task, self.make_run = owner, make_task, make_run
        self.task = make_task()
        self.repo = self.task.repo
        self.small = make_task()
        self.archived = make_task(archived_at=timezone.now())
        self.run = self._run(self.task, "succeeded")
        self.working, self.over = self._run(self.small, "running"), self._run(self.small, "failed")
        Turn.objects.create(run=self.working, number=2, prompt="more", author=owner, status="queued")
        self.begun = self._run(make_task(), "succeeded")
        self.begun.turns.update(started_at=timezone.now())
        Run.objects.filter(pk=self.over.pk).update(parent=self.working, parent_turn=1)
        self.spare = Repo.objects.create(owner=owner, source="https://example.org/spare", name="spare")
        choices = [{"agent": "shell", "model": "", "attempts": 2, "options": {}}]
        self.preset = Preset.objects.create(owner=owner, name="first", choices=choices)
        self.prompt = PromptTemplate.objects.create(owner=owner, name="first", prompt="x")
        self.token = ApiToken.objects.create(user=owner, name="first", digest="0" * 64, hint="ac_0")
        self.key = Credential(owner=owner, provider="openai", base_url="https://nowhere.invalid", checked_at=timezone.now())
        self.key.secret = "sk-0123456789abcdef"
        self.key.save()
        self.hook = OutgoingWebhook.objects.create(owner=owner, url="https://example.org/", secret_encrypted=b"x", events=["run.finished"])
        self.message = self._message()
        GitHubAccount.objects.create(user=owner, github_id=1, login="octo", token_encrypted=b"x")
        self.attachment = self._attachment("first")
        self.artifact = self._artifact(0)
        self.trial = self._run(make_task(repo=self.repo, is_trial=True), "running")
        self.prepared = self._prepared(0)
        self.comment = self._comment()
        self._fill(self.run)
        self.grow(1, 1 + len(STATUSES))

    def grow(self, first: int, end: int) -> None:
        for number in range(first, end):
            repo = Repo.objects.create(
                owner=self.owner, source=f"https://example.org/{number}", name=f"repo {number}", mirrored_at=timezone.now()
            )
            self.repo.variables.create(name=f"N{number}", value="1", is_secret=False, phase="agent")
            self._prepared(number)
            self.repo.mcp_servers.create(name=f"s{number}", url=f"https://s{number}.example/mcp")
            self._run(self.make_task(repo=repo, prompt="find me"), STATUSES[number % len(STATUSES)])
            self._run(self.make_task(archived_at=timezone.now()), "succeeded")
            self._run(self.task, STATUSES[number % len(STATUSES)])
            turn = Turn.objects.create(run=self.run, number=number + 1, prompt="more", author=self.owner, status="succeeded")
            turn.attachments.add(self._attachment(f"file {number}"))
            self._artifact(number)
            self._log(self.run, turn)
            self._comment()
            PromptTemplate.objects.create(owner=self.owner, name=f"prompt {number}", prompt="x")
            Preset.objects.create(owner=self.owner, name=f"preset {number}", choices=self.preset.choices)
            self._message()
            ApiToken.objects.create(user=self.owner, name=f"token {number}", digest=f"{number:064}", hint="ac_1")

    def _prepared(self, number: int) -> PreparedEnvironment:
        run = self._run(self.make_task(repo=self.repo, is_trial=True), "running") if number < 2 else None
        status = "building" if run else "failed"
        return self.repo.prepared.create(backend="local", key=f"{number:064}", base_commit="a" * 40, run=run, status=status)

    def _run(self, task: Task, status: str) -> Run:
        run = self.make_run(task, status=status, started_at=timezone.now(), sandbox=status == "running")
        turn = run.turns.get()
        files = [{"path": "a.py", "old_path": None, "state": "modified", "additions": 1, "deletions": 1, "is_binary": False}]
        patch = Patch.objects.create(run=run, turn=turn, kind="final", content=b"", sha256="0" * 64, files=files, additions=1, deletions=1)
        Publication.objects.create(run=run, by=self.owner, patch=patch, message="x", title="x", base="main", pushed="0" * 64)
        PullRequest.objects.create(run=run, number=1, url="https://github.com/acme/shop/pull/1", branch="b", checks="failure")
        alike = {"repo": task.repo, "base_commit": task.base_commit, "command": f"make {run.pk}", "status": "failed"}
        hidden = self.make_run(self.make_task(repo=task.repo, is_trial=True), status="succeeded")
        Check.objects.create(patch=patch, base=Check.objects.create(**alike), run=hidden, output="no\n", seconds=1, **alike)
        self._log(run, turn)
        run.refresh_from_db()
        return run

    def _message(self) -> OutgoingDelivery:
        OutgoingDelivery.objects.create(owner=self.owner, event="test", payload={}, state="failed")
        return OutgoingDelivery.objects.create(owner=self.owner, webhook=self.hook, event="test", payload={}, state="failed")

    def _comment(self) -> Comment:
        lines = {"side": "new", "start_line": 1, "end_line": 1}
        return Comment.objects.create(run=self.run, author=self.owner, file="f00000000", path="a.py", blob="0" * 40, body="x", **lines)

    def _log(self, run: Run, turn: Turn) -> None:
        for kind, data in (
            ("status", {"status": "running"}),
            ("log", {"stream": "stdout", "text": "line\n"}),
            ("tool_call", {"id": f"{turn.pk}", "title": "Read", "tool": "read", "input": {}}),
            ("tool_result", {"id": f"{turn.pk}", "is_error": False, "output": "x", "seconds": 1}),
            ("log", {"stream": "network", "text": "refused example.org:443\n"}),
        ):
            events.append(run.pk, kind, data, turn_id=turn.pk)

    def _fill(self, run: Run) -> None:
        """As many events as a page holds, so that more cannot make it longer."""
        first, end = run.next_seq, run.next_seq + MOST_EVENTS
        Event.objects.bulk_create(
            Event(run=run, seq=seq, kind="log", data={"stream": "stdout", "text": "x\n"}) for seq in range(first, end)
        )
        Run.objects.filter(pk=run.pk).update(next_seq=end)

    def _artifact(self, number: int) -> Artifact:
        kept = {"content": b"x", "size": 1, "sha256": "0" * 64}
        return Artifact.objects.create(run=self.run, turn=self.run.turns.first(), path=f"{number}.png", **kept)

    def _attachment(self, name: str) -> Attachment:
        return Attachment.objects.create(owner=self.owner, name=name, content_type="text/plain", content=b"x", size=1)


@dataclass(frozen=True)
class Call:
    """How a view is called, and the status it answers with. `args` and `data` are made of the world."""

    args: Callable[[World], list[Any]] = lambda world: []
    data: Callable[[World], dict[str, Any]] = lambda world: {}
    method: str = "get"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def show(*args: str, **data: Any) -> Call:
    return Call(lambda world: [pk(world, name) for name in args], lambda world: filled(world, data))


def do(*args: str, status: int = 302, **data: Any) -> Call:
    return Call(lambda world: [pk(world, name) for name in args], lambda world: filled(world, data), "post", status)


def part(call: Call, target: str = "") -> Call:
    return Call(call.args, call.data, call.method, call.status, {"HX-Request": "true", "HX-Target": target})


def pk(world: World, name: str) -> Any:
    """The id of what the world calls "@name"; any other text is itself."""
    return getattr(world, name[1:]).pk if name.startswith("@") else name


def filled(world: World, data: dict[str, Any]) -> dict[str, Any]:
    return {name: pk(world, value) if isinstance(value, str) else value for name, value in data.items()}


NO_MIRROR = Call(lambda world: [world.run.pk], lambda world: {"old": 1, "new": 1, "lines": 1}, status=503)
AGAINST = Call(lambda world: [world.run.pk], lambda world: {"since": f"run-{world.run.pk}"})
NEW_TASK = {"prompt": "Do it", "repo": "@spare", "runs-shell": "1"}
CALLS: dict[str, list[Call]] = {
    "home": [show(), show(archived=""), show(q="find me"), part(show(), "tasks"), part(show(), "older")],
    "task-create": [do(**NEW_TASK), do(status=422, prompt="")],
    "task-create-several": [do(status=422, **NEW_TASK)],
    "pick-repos": [show(q="repo"), show(repo="@repo")],
    "pick-github": [show(), show(add="")],
    "pick-access": [show(repo="@repo")],
    "pick-branches": [show(repo="@spare")],
    "pick-prompts": [show()],
    "tasks-archive": [do(task="@archived")],
    "tasks-restore": [do(task="@archived")],
    "task": [show("@task"), part(show("@task"))],
    "task-restore": [do("@archived")],
    "task-retry": [do("@small")],
    "task-follow-up": [do("@small", prompt="more", runs="@over"), do("@small", prompt="", status=422)],
    "task-stop": [do("@small")],
    "task-archive": [show("@task"), do("@archived")],
    "task-compare": [show("@task"), part(show("@task"))],
    "task-compare-file": [Call(lambda world: [world.task.pk], status=302)],
    "task-compare-trees": [
        Call(lambda world: [world.task.pk], status=404),
        Call(lambda world: [world.task.pk], lambda world: {"old": world.run.pk, "new": world.run.pk}, status=302),
    ],
    "task-compare-fetch": [do("@small")],
    "task-combine": [show("@task", runs="@run"), do("@task", status=404)],
    "task-unchoose": [do("@task")],
    "run-choose": [show("@run"), do("@run")],
    "run": [
        show("@run"),
        part(show("@run")),
        part(show("@run", part="network")),
        part(show("@run", part="sandbox")),
        show("@run", tab="artifacts"),
    ],
    "run-events": [show("@run")],
    "run-event": [show("@run", "2")],
    "run-raw-events": [show("@run")],
    "run-patch": [show("@run")],
    "run-pull": [show("@run"), part(show("@run")), do("@over", status=422)],
    "run-pull-update": [do("@over", status=422)],
    "run-pull-names": [show("@run")],
    "run-conversation": [Call(lambda world: [world.run.pk], status=404)],
    "run-transcript": [show("@run")],
    **{f"run-changes-{name}": [NO_MIRROR] for name in ("files", "gap", "blob", "patch")},
    "run-changes": [show("@run"), show("@run", since="turn"), AGAINST, part(show("@run", seen="x"), "news")],
    "run-files": [show("@run"), show("@run", at="1"), show("@working")],
    "run-files-raw": [Call(lambda world: [world.run.pk], lambda world: {"path": "a"}, status=503)],
    "run-artifact": [show("@run", "@artifact")],
    "run-changes-found": [show("@run", q="x")],
    "run-changes-viewed": [do("@run", file="f00000000")],
    "run-changes-look": [do("@run", form="split")],
    "run-comments": [Call(lambda world: [world.run.pk], status=302), do("@run", status=422)],
    "run-comment": [do("@run", "@comment", body="x"), do("@run", "@comment", status=422)],
    "run-comment-delete": [do("@run", "@comment")],
    "run-comments-send": [do("@run", drafts="@comment")],
    "run-pull-resolve": [do("@over")],
    "run-pull-merge": [Call(lambda world: [world.over.pk], status=302), do("@over")],
    "run-pull-ready": [do("@over")],
    "run-pull-close": [Call(lambda world: [world.over.pk], status=302), do("@over")],
    "run-pull-reopen": [Call(lambda world: [world.over.pk], status=302), do("@over")],
    "run-pull-branch": [Call(lambda world: [world.over.pk], status=302), do("@over")],
    "run-pull-checks": [Call(lambda world: [world.over.pk], status=302), do("@over", prompt="")],
    "run-pull-review": [Call(lambda world: [world.over.pk], status=302), do("@over", status=302)],
    "run-pull-reviews": [Call(lambda world: [world.over.pk], status=302), do("@over", prompt="")],
    "run-stop": [do("@working")],
    "run-retry": [do("@over")],
    "run-check": [do("@begun")],
    "run-follow-up": [do("@over", prompt="more"), do("@over", prompt="", status=422)],
    "run-withdraw": [do("@working", "2")],
    "run-send-now": [do("@working", "2")],
    "run-approve": [do("@over", status=422, plan="")],
    "run-turn": [Call(lambda world: [world.run.pk, 1], status=302)],
    "run-branch": [show("@run", "1"), do("@begun", "1", prompt="more"), do("@begun", "1", prompt="", status=422)],
    "run-back": [show("@run", "1"), do("@begun", "0")],
    "attachments": [show(ids="@attachment"), do(status=422)],
    "attachment": [show("@attachment")],
    "attachment-remove": [do("@attachment")],
    "prompts": [show()],
    "prompt-new": [show(), do(name="new", prompt="x"), do(name="", status=422)],
    "prompt": [show("@prompt"), do("@prompt", name="other", prompt="x")],
    "prompt-text": [show("@prompt")],
    "prompt-remove": [show("@prompt"), do("@prompt")],
    "preset-save": [do(preset_name="Both", status=200, **NEW_TASK), do(preset_name="", status=422)],
    "preset-remove": [do("@preset", status=200)],
    "repos": [show(), show(q="repo"), part(show())],
    "repo": [show("@repo"), part(show("@repo")), do("@repo", setup_script="true", network_preset="none")],
    "repo-fetch": [do("@spare")],
    "repo-remove": [show("@repo"), do("@spare")],
    "repo-trial": [show("@repo", run="@trial")],
    "repo-trial-stop": [do("@repo", run="@trial")],
    "variable-set": [do("@repo", name="NEW", value="1", phase="agent")],
    "variables-set": [do("@repo", lines="A=1")],
    "variable-remove": [show("@repo", "N1"), do("@repo", "N1")],
    "mcp-server-set": [do("@repo", name="s1", url="https://new.example/mcp"), do("@repo", name="new", status=422)],
    "mcp-server-remove": [show("@repo", "s1"), do("@repo", "s1")],
    "mcp-server-allow": [do("@repo", "s1")],
    "prepared-rebuild": [show("@repo", "@prepared"), do("@repo", "@prepared", status=409)],
    "prepared-delete": [show("@repo", "@prepared"), do("@repo", "@prepared")],
    "statistics": [show(), show(days="all", of="all")],
    "sign-in": [Call(status=302)],
    "login-link": [show("wrong"), do("wrong", status=410)],
    "sign-out": [do()],
    "github_login": [do()],
    "github_callback": [Call(status=403)],
    "github-webhook": [do(status=404)],
    "healthz": [show()],
    "readyz": [Call(status=503)],
    "metrics": [show()],
    "settings": [show()],
    "settings-profile": [do(display_name="Alice")],
    "settings-theme": [do(theme="dark")],
    "settings-notify": [do(notify="run")],
    "outgoing": [show(), do(url="https://example.org/", events="run.failed", status=200), do(status=422)],
    "outgoing-mails": [do(), do(events="x", status=422)],
    "outgoing-webhook": [show("@hook"), do("@hook", url="https://example.org/", events="run.failed")],
    "outgoing-test": [do("@hook")],
    "outgoing-remove": [show("@hook"), do("@hook")],
    "outgoing-again": [do("@message")],
    "settings-password": [do(status=422)],
    "settings-token": [do(name="new", scope="read", expires="30", status=200), do(name="", status=422)],
    "token-revoke": [show("@token"), do("@token")],
    "settings-keys": [do(status=422, provider="openai", secret="short")],
    "key-check": [do("@key")],
    "key-remove": [show("@key"), do("@key")],
    "settings-github": [do(status=422, token="short")],
    "github-connect": [do()],
    "github-disconnect": [show(), do()],
    "github-app": [Call(status=302), do(status=200, organization="acme"), do(status=422, organization="-")],
    "github-app-made": [Call(status=302)],
    "github-app-forget": [Call(status=404)],
    "account-delete": [show(), do(status=422, name="somebody else")],
    "sessions-end": [show(), do()],
    "styleguide": [show()],
}
CASES = [(name, number) for name, calls in CALLS.items() for number in range(len(calls))]


@pytest.fixture
def world(alice: User, make_task: Callable[..., Task], make_run: Callable[..., Run]) -> World:
    return World(alice, make_task, make_run)


def queries(client: Client, world: World, name: str, call: Call) -> list[str]:
    """What the call asks the database; what it changed is taken back."""
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        address = reverse(name, args=call.args(world))
        response = getattr(client, call.method)(address, call.data(world), headers=call.headers)
        transaction.set_rollback(True)
    assert response.status_code == call.status, response.content.decode()[:2000]
    return [query["sql"][:200] for query in captured.captured_queries]


def test_every_view_is_named_here() -> None:
    named = {pattern.name for pattern in urlpatterns if pattern.name}
    assert named == CALLS.keys()
    assert {key for key in get_resolver().reverse_dict if isinstance(key, str)} >= CALLS.keys()


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{name}-{number}" for name, number in CASES])
def test_a_view_asks_no_more_when_there_is_more(as_alice: Client, world: World, settings: Settings, name: str, number: int) -> None:
    settings.PASSWORD_LOGIN = True
    settings.GITHUB_CLIENT_ID = settings.GITHUB_CLIENT_SECRET = "x"
    call = CALLS[name][number]
    queries(as_alice, world, name, call)  # what is asked once only, as for content types
    few = queries(as_alice, world, name, call)
    world.grow(1 + len(STATUSES), 3 * len(STATUSES))
    many = queries(as_alice, world, name, call)
    assert len(many) <= len(few), "\n".join(many)
    assert len(many) <= (MOST_OF.get(name, MOST_TO_SHOW) if call.method == "get" else MOST_TO_DO), "\n".join(many)
