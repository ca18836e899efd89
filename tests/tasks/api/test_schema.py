"""The API does what its OpenAPI says, whatever it is sent: schemathesis makes requests of every operation, good ones and bad ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import channels.db
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tasks import limits, tokens
from tasks.api.paging import BIGGEST
from tasks.models import Artifact, Attachment, OutgoingDelivery, OutgoingWebhook, Patch, PullRequest, Repo, Run, Turn, User, Variable
from tasks.running import events, operations
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db
schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application())
KNOWN = 7_000_001  # the id of one of each: a task, a run, …
NAME = "LEVEL"
EVERY = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@schema.hook
def map_path_parameters(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Most of what is asked for is there."""
    return {name: known(name, value) for name, value in parameters.items()} if parameters else parameters


def known(name: str, value: Any) -> Any:
    """What is no good value stays, so that it is refused."""
    if name == "name":
        return NAME if isinstance(value, str) and len(value) % 2 and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", value) else value
    if not isinstance(value, int) or not 1 <= value <= BIGGEST or value % 5 == 0:
        return value
    return 1 if name == "number" else KNOWN


@schema.hook
def map_body(context: Any, body: Any) -> Any:
    """Most tasks are for a repository that is there, and by an agent that can be asked."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("repo"), int) and body["repo"] > 0:
        body["repo"] = KNOWN
    for choice in body["agents"] if isinstance(body.get("agents"), list) else []:
        if isinstance(choice, dict) and isinstance(choice.get("agent"), str) and choice["agent"]:
            choice["agent"] = "shell"
    return body


@pytest.fixture(autouse=True)
def kept_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A request does not end the test's transaction."""
    monkeypatch.setattr(channels.db, "close_old_connections", lambda: None)
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def secret(alice: User, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> str:
    """A token of alice's, who has one of everything."""
    monkeypatch.setattr(operations, "pin", lambda repo, branch: "a" * 40)
    monkeypatch.setattr(limits, "TOKENS", limits.Limit("tokens", most=10**9, seconds=60))
    repo = Repo.objects.create(
        pk=KNOWN, owner=alice, source="https://example.org/a", name="a", default_branch="main", mirrored_at=timezone.now()
    )
    Variable(repo=repo, name=NAME, value="3").save()
    task = repo.tasks.create(pk=KNOWN, owner=alice, title="Do it", prompt="true", base_branch="main", base_commit="a" * 40)
    run = make_run(task, pk=KNOWN, status="succeeded", started_at=timezone.now(), finished_at=timezone.now())
    turn = Turn.objects.get(run=run)
    Patch.objects.create(run=run, turn=turn, kind="final", content=b"diff --git a/a b/a\n", sha256="0" * 64)
    PullRequest.objects.create(run=run, number=1, url="https://github.com/acme/shop/pull/1", branch="b", repository="acme/shop")
    Attachment.objects.create(pk=KNOWN, owner=alice, name="a.txt", content_type="text/plain", content=b"a", size=1)
    Artifact.objects.create(pk=KNOWN, run=run, turn=turn, path="a.txt", content=b"a", size=1, sha256="0" * 64)
    webhook = OutgoingWebhook(pk=KNOWN, owner=alice, url="https://example.org/hook", events=["run.failed"])
    webhook.secret = "whsec_AAAA"
    webhook.save()
    OutgoingDelivery.objects.create(pk=KNOWN, owner=alice, webhook=webhook, event="test", payload={"event": "test"}, state="failed")
    events.append(run.pk, "log", {"stream": "stdout", "text": "line\n"}, turn_id=turn.pk)
    return tokens.create_token(user=alice, name="schemathesis", scope="write", expires_in_days=7)[1]


def try_out(case: Case, secret: str) -> None:
    """Send it, take back what it changed, and compare with the schema. That a good body is refused all the same for what it means (a
    branch that is not there, a plan that waits for nobody) is no schema's to say. One that is to come without a token does."""
    headers = {} if case.operation.schema.is_security_param_negated(case) else {"Authorization": f"Bearer {secret}"}
    with transaction.atomic():
        response = case.call(headers=headers)
        transaction.set_rollback(True)
    excluded = [] if case.method == "GET" else [positive_data_acceptance]
    case.validate_response(response, headers=headers, excluded_checks=excluded)


@schema.parametrize()
@settings(EVERY, max_examples=5)
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_every_operation_does_what_the_schema_says(case: Case, secret: str) -> None:
    try_out(case, secret)


@pytest.mark.long
@schema.parametrize()
@settings(EVERY, max_examples=150)
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_every_operation_does_so_much_longer(case: Case, secret: str) -> None:
    try_out(case, secret)


def test_operations_are_told_in_words() -> None:
    raw = Program("").get("/openapi.json").body
    names = []
    for path, methods in raw["paths"].items():
        for method, operation in methods.items():
            names.append(operation["operationId"])
            assert all(operation[said] for said in ("summary", "description", "tags")), (method, path)
            assert operation["security"] == [{"Token": []}]
            assert "401" in operation["responses"], (method, path)
            if method == "post":
                assert [one["name"] for one in operation["parameters"] if one["in"] == "header"] == ["Idempotency-Key"], path
    assert len(names) == len(set(names))
    assert raw["components"]["securitySchemes"]["Token"]["scheme"] == "bearer"
