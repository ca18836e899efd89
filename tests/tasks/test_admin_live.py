"""Pages of the administration of what is outside the database: sandboxes there are, queues and workers, settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import django_rq
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape
from pytest_django import Settings
from rq import Queue, SimpleWorker

from sandboxes.base import SandboxInfo
from sandboxes.errors import SandboxError
from tasks.models import AuditEntry, Run, RunStatus, Sandbox, SandboxStatus, User
from tasks.running import backends, inventory
from tasks.running.inventory import Match

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
HOSTILE = "<script>alert(1)</script>"
PAGES = ["/admin/sandboxes/", "/admin/queues/", "/admin/settings/"]


@pytest.fixture
def operator(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


class There:
    """A backend that has these sandboxes, or does not say."""

    def __init__(self) -> None:
        self.infos: Sequence[SandboxInfo] = []
        self.error: Exception | None = None
        self.takes_s = 0.0

    async def list(self) -> Sequence[SandboxInfo]:
        await asyncio.sleep(self.takes_s)
        if self.error:
            raise self.error
        return self.infos


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> There:
    settings.HOST_NAME = "here"
    found = There()
    monkeypatch.setattr(backends, "backend", lambda name: found)
    return found


def matches() -> dict[str, Match]:
    return {entry.ref: entry.match for entry in inventory.look("local").entries}


def test_differences_between_a_backend_and_our_rows_are_marked(operator: Client, make_run: MakeRun, there: There) -> None:
    here, gone, begun, old = (make_run(sandbox=True, status=RunStatus.SUCCEEDED) for _ in range(4))
    Sandbox.objects.filter(run=begun).update(ref="", status=SandboxStatus.STARTING)
    Sandbox.objects.filter(run=old).update(status=SandboxStatus.DESTROYED)
    there.infos = [
        SandboxInfo(backends.key(here.pk, 1), f"ref-{here.pk}", is_alive=True),
        SandboxInfo(backends.key(begun.pk, 1), "being-made", is_alive=True),
        SandboxInfo(backends.key(old.pk, 1), f"ref-{old.pk}", is_alive=False),
        SandboxInfo("other:7:1", HOSTILE, is_alive=True),
    ]
    assert matches() == {
        f"ref-{here.pk}": Match.BOTH,
        "being-made": Match.BOTH,
        f"ref-{old.pk}": Match.NO_ROW,
        HOSTILE: Match.ELSEWHERE,
        f"ref-{gone.pk}": Match.NOT_THERE,
    }
    with CaptureQueriesContext(connection) as asked:
        page = operator.get(PAGES[0]).content.decode()
    assert len(asked) <= 6
    assert HOSTILE not in page
    for word in (Match.NOT_THERE, Match.NO_ROW, Match.ELSEWHERE):
        assert word in page


def test_a_backend_that_does_not_answer_is_a_sentence(
    operator: Client, make_run: MakeRun, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(sandbox=True, status=RunStatus.SUCCEEDED)
    there.error = SandboxError("The cloud is away.")
    page = operator.get(PAGES[0]).content.decode()
    assert "The cloud is away." in page
    assert f"ref-{run.pk}" in page
    there.error, there.takes_s = None, 60
    monkeypatch.setattr(inventory, "MOST_S", 0.05)
    assert "did not answer" in operator.get(PAGES[0]).content.decode()


def test_a_sandbox_is_destroyed_after_a_question(operator: Client, make_run: MakeRun, there: There) -> None:
    idle, busy = (make_run(sandbox=True, status=status).sandboxes.get() for status in (RunStatus.SUCCEEDED, RunStatus.RUNNING))
    assert f'name="destroy" value="{idle.pk}"' in operator.get(f"{PAGES[0]}?destroy={idle.pk}").content.decode()
    idle.refresh_from_db()
    assert idle.status == SandboxStatus.LIVE
    for row, said in [(idle, "is being destroyed"), (busy, "A turn is at work in it")]:
        assert said in operator.post(PAGES[0], {"destroy": row.pk}, follow=True).content.decode()
    idle.refresh_from_db()
    assert idle.status == SandboxStatus.LOST
    assert AuditEntry.objects.get(kind="sandbox_destroyed").subject == f"sandbox:{idle.pk}"
    assert operator.get(f"{PAGES[0]}?destroy=999999").status_code == 404


def test_cleaning_up_is_left_to_a_worker(operator: Client, there: There, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks() as nudges:
        operator.post(PAGES[0], {"look": "local"})
        operator.post(PAGES[0], {"look": "elsewhere"})
    assert len(nudges) == 1
    assert AuditEntry.objects.get().detail == {"deed": "look_through", "backend": "local"}


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.fixture
def failed(services: Any) -> str:
    """The number of a job that failed, which its test deletes."""
    queue = Queue("runs", connection=django_rq.get_connection("runs"))
    job = queue.enqueue(fail, HOSTILE)
    SimpleWorker([queue], connection=queue.connection).work(burst=True, logging_level="CRITICAL")
    return job.id


def test_failed_jobs_are_shown_retried_and_deleted(operator: Client, failed: str) -> None:
    page = operator.get(PAGES[1]).content.decode()
    assert escape("ValueError") in page
    assert HOSTILE not in page
    queue = Queue("runs", connection=django_rq.get_connection("runs"))
    said = operator.post(PAGES[1], {"queue": "runs", "job": failed, "deed": "retry"}, follow=True)
    assert "It is done." in said.content.decode()
    assert queue.get_job_ids() == [failed]
    for deed, sentence in {"retry": "not among the failed ones", "forget": "not among the failed ones", "x": "Choose"}.items():
        said = operator.post(PAGES[1], {"queue": "runs", "job": failed, "deed": deed}, follow=True)
        assert sentence in said.content.decode()
    SimpleWorker([queue], connection=queue.connection).work(burst=True, logging_level="CRITICAL")
    operator.post(PAGES[1], {"queue": "runs", "job": failed, "deed": "forget"})
    assert failed not in queue.failed_job_registry
    assert [entry.detail["deed"] for entry in AuditEntry.objects.order_by("pk")] == ["retry_job", "forget_job"]


def test_without_redis_the_page_says_so(operator: Client, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1"
    page = operator.get(PAGES[1]).content.decode()
    assert "Redis does not answer" in page


def test_settings_are_shown_without_secrets(operator: Client, settings: Settings) -> None:
    page = operator.get(PAGES[2]).content.decode()
    assert "SANDBOX_MEMORY_MB" in page
    assert str(settings.SANDBOX_MEMORY_MB) in page
    for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "E2B_API_KEY", "GITHUB_TOKEN", "SENTRY_DSN"):
        assert name in page
        assert settings.ENVIRONMENT[name].value is None
    assert settings.SECRET_KEY not in page
    assert settings.DATABASE_URL not in page


@pytest.mark.parametrize("page", PAGES)
def test_nobody_else_sees_them(bob: User, page: str) -> None:
    client = Client()
    assert client.get(page).status_code == 302
    client.force_login(bob)
    assert client.get(page).status_code == 302
    assert client.post(page, {"destroy": "1"}).status_code == 302
