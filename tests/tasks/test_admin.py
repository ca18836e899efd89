"""The administration: for operators only, read-only, quick on big tables, and acting through verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from sandboxes.errors import SandboxLimited
from tasks import credentials
from tasks.admin import base
from tasks.attachments import store
from tasks.models import (
    AgentModel,
    AgentSetting,
    ApiToken,
    Artifact,
    Attachment,
    AuditEntry,
    AuditKind,
    Budget,
    BudgetScope,
    Check,
    CreationBucket,
    Credential,
    Delivery,
    DeliveryStatus,
    Event,
    EventKind,
    GitHubAccount,
    GitHubRequest,
    LoginLink,
    ModelCall,
    Operation,
    OperationStatus,
    OutgoingDelivery,
    OutgoingWebhook,
    Patch,
    PatchKind,
    PreparedEnvironment,
    Preset,
    Price,
    PromptTemplate,
    Publication,
    PullRequest,
    Quota,
    Repo,
    RepoMcpServer,
    Run,
    RunStatus,
    Sandbox,
    SandboxStatus,
    Task,
    Turn,
    User,
)
from tasks.running import capacity
from tests.tasks.provider import GOOD, Provider, provider

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
MODELS = [
    *(
        Repo,
        Task,
        Run,
        Turn,
        Sandbox,
        Patch,
        Publication,
        PullRequest,
        Operation,
        ApiToken,
        LoginLink,
        GitHubAccount,
        PromptTemplate,
        Attachment,
        Preset,
        ModelCall,
        RepoMcpServer,
        CreationBucket,
        PreparedEnvironment,
        Check,
        Delivery,
        GitHubRequest,
        AuditEntry,
        OutgoingWebhook,
        OutgoingDelivery,
        Artifact,
    ),
]
EDITED = [Price, Budget, Quota, AgentSetting, AgentModel]
BIG = (
    "tasks_delivery",
    "tasks_modelcall",
    "tasks_run",
    "tasks_event",
    "tasks_turn",
    "tasks_sandbox",
    "tasks_patch",
    "tasks_artifact",
    "tasks_operation",
    "tasks_task",
    "tasks_auditentry",
    "tasks_outgoingdelivery",
)
HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture
def operator(alice: User) -> Client:
    """alice is an operator without being a superuser."""
    client = Client()
    client.force_login(alice)
    return client


def add_one_of_each(make_run: MakeRun, number: int = 1) -> Run:
    """A run with a row of every model."""
    run = make_run(sandbox=True, status=RunStatus.SUCCEEDED, error=HOSTILE)
    Task.objects.filter(pk=run.task_id).update(title=HOSTILE, prompt=HOSTILE)
    owner, turn = run.task.owner, run.turns.get()
    patch = Patch.objects.create(run=run, turn=turn, kind=PatchKind.FINAL, content=b"secret content", sha256="0")
    Artifact.objects.create(run=run, turn=turn, path=HOSTILE, content=b"secret content", size=14, sha256="0", left_out=HOSTILE)
    publication = {"title": HOSTILE, "body": HOSTILE, "message": HOSTILE, "base": HOSTILE, "branch": HOSTILE, "error": HOSTILE}
    Publication.objects.create(run=run, by=owner, patch=patch, refused=[HOSTILE], error_code="rules", **publication)
    PullRequest.objects.create(run=run, number=number, url="https://example.org/1", branch="b")
    Operation.objects.create(kind="mirror", subject=f"repo:{number}", status=OperationStatus.FAILED, error=HOSTILE)
    ApiToken.objects.create(user=owner, name=f"ci {number}", digest=f"digest-{number}", hint="ac_12345")
    LoginLink.objects.create(user=owner, digest=f"digest-{number}", expires_at=timezone.now())
    GitHubAccount.objects.update_or_create(user=owner, defaults={"github_id": number, "login": HOSTILE, "token_encrypted": b"digest-1"})
    PromptTemplate.objects.create(owner=owner, name=f"{HOSTILE} {number}", prompt=HOSTILE)
    Preset.objects.create(owner=owner, name=f"{HOSTILE} {number}", choices=[{"agent": HOSTILE}])
    RepoMcpServer.objects.create(repo=run.task.repo, name=f"{HOSTILE} {number}", command=[HOSTILE])
    ModelCall.objects.create(user=owner, run=run, turn=turn, provider="openai", model=HOSTILE, status=200, cost_usd="0.5")
    Check.objects.create(repo=run.task.repo, run=run, base_commit="0", command=HOSTILE, output=HOSTILE, error=HOSTILE)
    environment = PreparedEnvironment.objects.create(repo=run.task.repo, backend="e2b", key=f"{number}", base_commit="0", log=HOSTILE)
    run.sandboxes.update(
        prepared=environment, notice=HOSTILE, record={"template": HOSTILE}, expires_at=timezone.now(), lost_at=timezone.now()
    )
    CreationBucket.objects.create(backend=f"cloud{number}", filled_at=timezone.now(), reason=HOSTILE)
    turn.attachments.set(store(by=owner, files=[SimpleUploadedFile("a.txt", b"secret content")]))
    Delivery.objects.create(
        delivery_id=f"d-{number}",
        event="push",
        action=HOSTILE,
        repository="a/b",
        payload={"ref": HOSTILE},
        outcome=HOSTILE,
        status="failed",
    )
    GitHubRequest.objects.create(repository="a/b", number=number, kind="comment", user=owner, login=HOSTILE, outcome=HOSTILE, task=run.task)
    Event.objects.create(run=run, seq=1, kind=EventKind.MESSAGE, data={"text": HOSTILE})
    AuditEntry.objects.create(kind=AuditKind.CHANGED, username=owner.username, subject=HOSTILE, detail={"name": HOSTILE})
    webhook = OutgoingWebhook.objects.create(owner=owner, url=f"https://example.org/{HOSTILE}", secret_encrypted=b"digest-1")
    OutgoingDelivery.objects.create(owner=owner, webhook=webhook, event="run.failed", payload={"text": HOSTILE}, answer=HOSTILE)
    return run


def address(model: Any, *rest: Any) -> str:
    return "/".join(["/admin/tasks", model._meta.model_name, *map(str, rest), ""])


@pytest.mark.parametrize("model", [*MODELS, User])
def test_operators_see_lists_and_rows_and_change_none(operator: Client, make_run: MakeRun, model: Any) -> None:
    add_one_of_each(make_run)
    row = model.objects.order_by("pk").first()
    pages = [operator.get(address(model)), operator.get(address(model, row.pk, "change"))]
    for response in pages:
        assert response.status_code == 200
        page = response.content.decode()
        assert "<script>alert" not in page
        assert "\u202e" not in page
        assert "secret content" not in page
        assert "digest-1" not in page
    assert operator.get(address(model, "add")).status_code == 403
    assert operator.post(address(model, row.pk, "change"), {"status": "queued"}).status_code == 403
    assert operator.post(address(model, row.pk, "delete"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", [*MODELS, *EDITED, Credential, User])
def test_nobody_else_sees_anything(as_nobody: list[Client], model: Any) -> None:
    for client in as_nobody:
        assert client.get(address(model)).status_code == 302


@pytest.fixture
def as_nobody(bob: User) -> list[Client]:
    """Somebody who is not signed in, and somebody who is no operator."""
    client = Client()
    client.force_login(bob)
    return [Client(), client]


def test_a_superuser_adds_and_changes_users_but_nothing_else(make_run: MakeRun, charlie: User) -> None:
    run = add_one_of_each(make_run)
    User.objects.filter(pk=charlie.pk).update(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(charlie)
    assert client.get("/admin/tasks/user/add/").status_code == 200
    assert client.get(f"/admin/tasks/user/{charlie.pk}/change/").status_code == 200
    assert client.post(f"/admin/tasks/user/{charlie.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(address(Run, run.pk, "delete"), {"post": "yes"}).status_code == 403


# --- big tables ---


def counts(queries: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in queries if "COUNT(" in query["sql"] and any(f'"{table}"' in query["sql"] for table in BIG)]


@pytest.mark.parametrize("model", MODELS)
def test_no_list_counts_a_whole_table_or_looks_its_rows_up_one_by_one(operator: Client, make_run: MakeRun, model: Any) -> None:
    add_one_of_each(make_run)
    with CaptureQueriesContext(connection) as few:
        operator.get(address(model))
    for number in range(2, 6):
        add_one_of_each(make_run, number)
    with CaptureQueriesContext(connection) as many:
        operator.get(address(model))
    assert len(many) == len(few)
    assert all("LIMIT 10001" in sql for sql in counts(many))
    assert not any("DISTINCT" in query["sql"] for query in many)
    for column in ("content", "parse_state", "prompt", "search"):
        assert not any(f'"{column}"' in query["sql"] for query in many)


def test_a_count_that_was_cut_says_so(operator: Client, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_COUNTED", 2)
    task = make_run().task
    make_run(task)
    assert "10,000+" not in operator.get(address(Run)).content.decode()
    make_run(task)
    assert "10,000+" in operator.get(address(Run)).content.decode()


@pytest.mark.parametrize(
    ("model", "term", "finds"),
    [
        (Task, "alert", True),
        (Task, "nothing", False),
        (Run, "alert", True),
        (Run, "zebra", False),
        (Turn, "zebra", False),
        (Repo, "example", True),
        (ApiToken, "ci", True),
        (Operation, "repo:1", True),
        (Publication, "rules", True),
        (Publication, "alice", True),
        (Publication, "alert", False),
        (Delivery, "d-1", True),
        (Delivery, "a/b", True),
        (Delivery, "d", False),
    ],
)
def test_lists_are_searched(operator: Client, make_run: MakeRun, model: Any, term: str, finds: bool) -> None:
    add_one_of_each(make_run)
    response = operator.get(address(model), {"q": term})
    assert response.context["cl"].result_count == int(finds)


def test_rows_of_a_run_are_found_by_its_number(operator: Client, make_run: MakeRun) -> None:
    run, _ = add_one_of_each(make_run), add_one_of_each(make_run, 2)
    for model in (Run, Turn, Sandbox, Patch, Artifact, Publication, PullRequest, ModelCall):
        found = operator.get(address(model), {"q": str(run.pk)}).context["cl"].result_list
        assert {getattr(row, "run_id", row.pk) for row in found} == {run.pk}
        assert operator.get(address(model), {"q": "9" * 40}).status_code == 200


# --- filters by what is looked for ---


def found(client: Client, model: Any, **query: object) -> set[int]:
    return {row.pk for row in client.get(address(model), query).context["cl"].result_list}


def test_runs_are_filtered_by_repository_owner_agent_state_and_backend(operator: Client, make_run: MakeRun, bob: User) -> None:
    hers, his = make_run(status=RunStatus.FAILED), make_run(owner=bob, agent="codex", backend="e2b")
    for query, run in [
        ({"repo": hers.task.repo_id}, hers),
        ({"repo": his.task.repo_id}, his),
        ({"owner": bob.pk}, his),
        ({"agent": "codex"}, his),
        ({"status__exact": "failed"}, hers),
        ({"backend": "e2b"}, his),
        ({"repo": hers.task.repo_id, "owner": hers.task.owner_id, "agent": "shell", "backend": "local"}, hers),
    ]:
        assert found(operator, Run, **query) == {run.pk}, query
    assert found(operator, Run, repo=hers.task.repo_id, owner=bob.pk) == set()
    assert found(operator, Run, repo="9" * 40) == found(operator, Run, repo="x") == set()
    assert found(operator, Task, repo=his.task.repo_id, owner=bob.pk) == {his.task_id}


def test_a_repository_is_looked_for_by_a_part_of_its_name(operator: Client, alice: User, bob: User) -> None:
    for number in range(15):
        Repo.objects.create(owner=alice, source=f"https://example.org/shop-{number}", name=f"shop-{number}", default_branch="main")
    Repo.objects.create(owner=bob, source="https://example.org/x", name=HOSTILE, default_branch="main")
    assert "shop-14" not in operator.get(address(Run)).content.decode()
    page = operator.get(address(Run), {"repo_like": "SHOP-", "status__exact": "failed"}).content.decode()
    assert (page.count("shop-"), "There are more; type more of the name." in page) == (10, True)
    assert '<input type="hidden" name="status__exact" value="failed">' in page
    page = operator.get(address(Run), {"repo_like": "alert("}).content.decode()
    assert "<script>alert" not in page
    assert "of bob" in page
    assert "None is called so." in operator.get(address(Run), {"repo_like": "zebra" * 100}).content.decode()


def test_looking_for_a_repository_asks_as_little_however_many_there_are(operator: Client, alice: User) -> None:
    with CaptureQueriesContext(connection) as few:
        operator.get(address(Run), {"repo_like": "shop", "owner_like": "a"})
    Repo.objects.bulk_create(
        Repo(owner=alice, source=f"https://example.org/shop-{number}", name=f"shop-{number}", default_branch="main") for number in range(50)
    )
    with CaptureQueriesContext(connection) as many:
        operator.get(address(Run), {"repo_like": "shop", "owner_like": "a"})
    assert len(many) == len(few)
    assert any("LIMIT 11" in query["sql"] for query in many)


# --- actions ---


def act(client: Client, model: Any, action: str, *rows: Any) -> list[str]:
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    response = client.post(address(model), data, follow=True)
    return [str(message) for message in response.context["messages"]]


def test_runs_are_stopped(operator: Client, make_run: MakeRun) -> None:
    running, over = make_run(sandbox=True, status=RunStatus.RUNNING), make_run(status=RunStatus.SUCCEEDED)
    assert act(operator, Run, "stop", running, over) == [
        "1 run is being stopped.",
        "1 left as it is: It is over, or being stopped, already.",
    ]
    running.refresh_from_db()
    assert running.stop_requested_at is not None


def test_runs_are_retried(operator: Client, make_run: MakeRun) -> None:
    failed, also, running = make_run(status=RunStatus.FAILED), make_run(status=RunStatus.FAILED), make_run(status=RunStatus.RUNNING)
    assert act(operator, Run, "retry", failed, also, running) == [
        "2 new attempts are queued.",
        "1 left as it is: The run is not over yet. Stop it first.",
    ]
    assert failed.task.runs.filter(attempt=2, status=RunStatus.QUEUED).exists()


def test_all_runs_that_a_filter_finds_are_stopped_and_retried_and_written_down(operator: Client, make_run: MakeRun, bob: User) -> None:
    runs = [make_run(owner=bob, status=RunStatus.RUNNING) for _ in range(60)]  # more than a page has
    failed = [make_run(owner=bob, status=RunStatus.FAILED) for _ in range(2)]
    for action, state, count in [("stop", "running", 60), ("retry", "failed", 2)]:
        choice = {"action": action, "_selected_action": [runs[0].pk], "select_across": "1"}
        operator.post(f"{address(Run)}?owner={bob.pk}&status__exact={state}", choice)
        kind = {"stop": AuditKind.RUN_STOPPED, "retry": AuditKind.RUN_RETRIED}[action]
        assert AuditEntry.objects.filter(kind=kind, username="alice").count() == count
    assert Run.objects.filter(stop_requested_at__isnull=False).count() == 60
    assert Run.objects.filter(task__in=[run.task_id for run in failed], attempt=2).count() == 2


def test_sandboxes_are_destroyed_by_a_job(
    operator: Client, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    idle, busy = make_run(sandbox=True, status=RunStatus.SUCCEEDED), make_run(sandbox=True, status=RunStatus.RUNNING)
    gone = make_run(sandbox=True, status=RunStatus.SUCCEEDED)
    gone.sandboxes.update(status=SandboxStatus.DESTROYED)
    boxes = [run.sandboxes.get() for run in (idle, busy, gone)]
    with django_capture_on_commit_callbacks() as nudges:
        assert act(operator, Sandbox, "destroy", *boxes) == [
            "1 sandbox is being destroyed.",
            "1 left as it is: A turn is at work in it. Stop the run first.",
            "1 left as it is: It is destroyed already.",
        ]
    assert len(nudges) == 1
    assert [run.sandboxes.get().status for run in (idle, busy, gone)] == ["lost", "live", "destroyed"]


def test_tokens_are_revoked_also_those_of_others(operator: Client, bob: User) -> None:
    one = ApiToken.objects.create(user=bob, name="ci", digest="1", hint="ac_1")
    assert act(operator, ApiToken, "revoke", one) == ["1 token is revoked."]
    assert act(operator, ApiToken, "revoke", one) == ["1 left as it is: It was revoked before."]
    one.refresh_from_db()
    assert one.revoked_at is not None


def test_failed_operations_are_started_again(operator: Client, make_run: MakeRun) -> None:
    failed = Operation.objects.create(kind="mirror", subject="repo:1", status=OperationStatus.FAILED)
    good = Operation.objects.create(kind="mirror", subject="repo:2", status=OperationStatus.SUCCEEDED)
    assert act(operator, Operation, "start_again", failed, good) == ["1 operation is started again.", "1 left as it is: It has not failed."]
    assert Operation.objects.get(status=OperationStatus.QUEUED).subject == "repo:1"


def test_publications_that_failed_are_tried_again(operator: Client, make_run: MakeRun) -> None:
    run, other = add_one_of_each(make_run), add_one_of_each(make_run, 2)
    Operation.objects.create(kind="pull_request", subject=f"run:{run.pk}", status=OperationStatus.FAILED)
    assert act(operator, Publication, "run_again", run.publication, other.publication) == [
        "1 is tried again.",
        "1 left as it is: No operation is known of it any more. Publish from the run's page.",
    ]
    assert Operation.objects.get(status=OperationStatus.QUEUED).subject == f"run:{run.pk}"


@pytest.mark.parametrize(("state", "finds"), [("failed", 1), ("refused", 1), ("conflicts", 0), ("pushed", 0)])
def test_publications_are_filtered_by_how_they_stand(operator: Client, make_run: MakeRun, state: str, finds: int) -> None:
    add_one_of_each(make_run)
    assert operator.get(address(Publication), {"state": state}).context["cl"].result_count == finds


def test_deliveries_are_worked_on_again(operator: Client) -> None:
    failed = Delivery.objects.create(delivery_id="1", event="ping", status=DeliveryStatus.FAILED, outcome="No.", tries=5)
    queued = Delivery.objects.create(delivery_id="2", event="ping")
    assert act(operator, Delivery, "run_again", failed, queued) == [
        "1 delivery is worked on again.",
        "1 left as it is: It waits for a worker already.",
    ]
    failed.refresh_from_db()
    assert (failed.status, failed.outcome, failed.tries) == ("queued", "", 0)


# --- what operators choose ---


def errors(response: Any) -> str:
    return str(response.context["adminform"].form.errors)


def test_prices_are_edited(operator: Client) -> None:
    Price.objects.all().delete()
    given = {"model": "gpt-x", "input_usd": "1.25", "cached_usd": "0.1", "cache_write_usd": "1.25", "output_usd": "10"}
    assert operator.post(address(Price, "add"), given).status_code == 302
    price = Price.objects.get()
    assert operator.post(address(Price, price.pk, "change"), given | {"output_usd": "12"}).status_code == 302
    assert "greater than or equal to 0" in errors(operator.post(address(Price, price.pk, "change"), given | {"output_usd": "-1"}))
    assert "gpt-x" in operator.get(address(Price), {"q": "gpt"}).content.decode()
    assert Price.objects.get().output_usd == 12
    assert operator.post(address(Price, price.pk, "delete"), {"post": "yes"}).status_code == 302
    assert not Price.objects.exists()


def test_budgets_are_edited_and_there_is_one_of_each(operator: Client, bob: User) -> None:
    each, his = {"scope": "user", "usd": "20"}, {"scope": "user", "user": bob.pk, "usd": "50"}
    for given in (each, his, {"scope": "run", "usd": "0"}, {"scope": "site", "usd": "1000"}):
        assert operator.post(address(Budget, "add"), given).status_code == 302
    for given in (each, his):
        assert "There is such a budget already" in errors(operator.post(address(Budget, "add"), given))
    assert "that of one person" in errors(operator.post(address(Budget, "add"), his | {"scope": "site"}))
    assert "greater than or equal to 0" in errors(operator.post(address(Budget, "add"), {"scope": "run", "usd": "-1"}))
    assert Budget.objects.count() == 4
    assert operator.post(address(Budget, Budget.objects.get(user=bob).pk, "change"), his | {"usd": "60"}).status_code == 302
    assert Budget.objects.get(scope=BudgetScope.USER, user=bob).usd == 60
    assert operator.get(address(Budget)).status_code == 200


def test_quotas_are_edited_and_there_is_one_of_each(operator: Client, bob: User) -> None:
    assert operator.post("/admin/auth/group/add/", {"name": "Web"}).status_code == 302
    web = Group.objects.get()
    each, his = {"scope": "user", "at_once": "2"}, {"scope": "user", "user": bob.pk, "a_day": "50"}
    theirs = {"scope": "group", "group": web.pk, "at_once": "0"}
    for given in (each, his, theirs, {"scope": "site", "a_day": "1000"}):
        assert operator.post(address(Quota, "add"), given).status_code == 302
    for given in (each, his, theirs):
        assert "There is such a quota already" in errors(operator.post(address(Quota, "add"), given))
    assert "that of one person" in errors(operator.post(address(Quota, "add"), his | {"scope": "site"}))
    for given in (theirs | {"scope": "site"}, {"scope": "group"}):
        assert "is that of a group" in errors(operator.post(address(Quota, "add"), given))
    assert "greater than or equal to 0" in errors(operator.post(address(Quota, "add"), {"scope": "site", "at_once": "-1"}))
    assert Quota.objects.count() == 4
    assert operator.get(address(Quota)).status_code == 200


@pytest.mark.parametrize(
    ("args", "is_good"),
    [
        ('["--verbose", "--depth=2"]', True),
        ("[]", True),
        ("{}", False),
        ('"--verbose"', False),
        ("[1]", False),
        ('[""]', False),
        ('["a\\u0000b"]', False),
        ('["a\\nb"]', False),
        ("[" + ",".join(['"a"'] * 51) + "]", False),
        ("not json", False),
    ],
)
def test_more_arguments_are_a_list_of_texts(operator: Client, args: str, is_good: bool) -> None:
    response = operator.post(address(AgentSetting, "add"), {"agent": "shell", "is_on": "on", "extra_args": args})
    assert (response.status_code == 302) is is_good
    assert AgentSetting.objects.exists() is is_good
    assert operator.get(address(AgentSetting)).status_code == 200


def test_agents_are_those_there_are_and_models_have_plain_names(operator: Client) -> None:
    given = {"agent": "shell", "name": "some/model-1.5", "label": "Some", "position": "0"}
    assert operator.post(address(AgentModel, "add"), given).status_code == 302
    for wrong in ({"agent": "nobody"}, {"name": "--yolo"}, {"name": "a b"}):
        assert operator.post(address(AgentModel, "add"), given | wrong).status_code == 200
    assert AgentModel.objects.get().name == "some/model-1.5"
    assert operator.post(address(AgentSetting, "add"), {"agent": "nobody", "extra_args": "[]"}).status_code == 200


# --- keys ---


@pytest.fixture
def there(settings: Settings) -> Iterator[Provider]:
    with provider() as it:
        settings.ALLOW_PRIVATE_HOSTS = frozenset({it.address})
        yield it


def test_the_sites_keys_are_added_through_the_verb(operator: Client, there: Provider) -> None:
    given = {"provider": "openai", "kind": "api_key", "base_url": there.url}
    page = operator.get(address(Credential, "add")).content.decode()
    assert 'type="password"' in page
    refused = operator.post(address(Credential, "add"), given | {"secret": "sk-bad-0123456789"})
    assert "does not take this key" in errors(refused)
    assert "sk-bad-0123456789" not in refused.content.decode()
    assert not Credential.objects.exists()
    for _ in range(2):  # the second time in place of the first
        assert operator.post(address(Credential, "add"), given | {"secret": GOOD}).status_code == 302
    key = Credential.objects.get()
    assert (key.owner, key.secret) == (None, GOOD)
    for path in (address(Credential), address(Credential, key.pk, "change")):
        page = operator.get(path).content.decode()
        assert "cdef" in page
        assert GOOD not in page
        assert "gAAAA" not in page
    assert operator.post(address(Credential, key.pk, "change"), given).status_code == 403


def test_keys_are_checked_and_removed(operator: Client, bob: User, there: Provider) -> None:
    his = credentials.save_credential(by=bob, provider="openai", secret=GOOD, base_url=there.url)
    assert act(operator, Credential, "check_again", his) == ["1 left as it is: This key belongs to somebody else."]
    assert act(operator, Credential, "remove", his) == ["1 key is removed."]
    assert not Credential.objects.exists()


# --- events ---


def test_events_of_a_run_are_read_by_pages(operator: Client, make_run: MakeRun, bob: User) -> None:
    run = make_run()
    kinds = [EventKind.LOG, EventKind.MESSAGE]
    Event.objects.bulk_create(Event(run=run, seq=seq, kind=kinds[seq % 2], data={"text": f"{HOSTILE}-{seq}-"}) for seq in range(1, 251))
    path = f"/admin/tasks/run/{run.pk}/events/"
    assert path in operator.get(address(Run, run.pk, "change")).content.decode()
    with CaptureQueriesContext(connection) as queries:
        first = operator.get(path)
    assert not counts(queries)
    page = first.content.decode()
    assert "-100-" in page
    assert "-101-" not in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert first.context["later"] == 100
    assert first.context["earlier"] is None
    last = operator.get(path, {"after": 200})
    assert [event.seq for event, _ in last.context["rows"]] == list(range(201, 251))
    assert (last.context["earlier"], last.context["later"]) == (201, None)
    back = operator.get(path, {"before": 201, "kind": "log"})
    assert {event.kind for event, _ in back.context["rows"]} == {"log"}
    assert back.context["rows"][-1][0].seq == 200
    assert operator.get(path, {"after": "x", "kind": "y"}).status_code == 200
    client = Client()
    client.force_login(bob)
    assert client.get(path).status_code == 302


# --- the queues ---


def test_the_queues_are_for_operators_only(operator: Client, as_nobody: list[Client]) -> None:
    for client in as_nobody:
        response = client.get("/django-rq/")
        assert response.status_code == 302
        assert "sign-in" in response["Location"] or "login" in response["Location"]
        for path in ("stats.json", "metrics"):
            assert client.get(f"/django-rq/{path}").status_code in (302, 401, 404)
    response = operator.get("/django-rq/")
    assert response.status_code == 200
    for queue in ("runs", "operations"):
        assert queue in response.content.decode()
    policy = [directive.strip() for directive in response["Content-Security-Policy"].split(";")]
    assert "style-src 'self' 'unsafe-inline'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in operator.get("/admin/")["Content-Security-Policy"]
    assert "/django-rq/" in operator.get("/admin/").content.decode()


@pytest.mark.parametrize("page", ["", "details/", "finished/", "failed/", "scheduled/", "started/", "deferred/"])
def test_every_page_of_a_queue_opens(operator: Client, page: str) -> None:
    for queue in range(3):
        assert operator.get(f"/django-rq/queues/{queue}/{page}").status_code == 200
        assert operator.get(f"/django-rq/workers/{queue}/").status_code == 200


def test_all_models_are_there() -> None:
    here = {model for model in admin.site._registry if model._meta.app_label == "tasks"}
    assert here == {*MODELS, *EDITED, Credential, User}


# --- E2B's limits ---


def test_operators_let_sandboxes_be_made_again(operator: Client) -> None:
    capacity.close("e2b", SandboxLimited("E2B has 20 of ours already."))
    page = operator.get(address(CreationBucket)).content.decode()
    assert "E2B has 20 of ours already." in page
    choice = {"action": "open_now", "_selected_action": "e2b"}
    said = operator.post(address(CreationBucket), choice, follow=True).content.decode()
    assert "1 backend is asked for sandboxes again." in said
    assert CreationBucket.objects.get().closed_until is None
    assert "It is open already." in operator.post(address(CreationBucket), choice, follow=True).content.decode()


def test_operators_see_that_losses_stop_new_sandboxes(operator: Client, make_run: MakeRun) -> None:
    CreationBucket.objects.create(backend="e2b", filled_at=timezone.now())
    for number in range(3):
        Sandbox.objects.create(run=make_run(), generation=1, backend="e2b", ref=f"e-{number}", lost_at=timezone.now())
    assert "Three E2B sandboxes were lost within ten minutes." in operator.get(address(CreationBucket)).content.decode()
