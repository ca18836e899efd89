"""What load balancers and Prometheus are told, and what strangers are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import django_rq
import pytest
from django.db import OperationalError
from django.db.models.functions import Now
from django.test import Client
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from pytest_django import Settings

from tasks.models import Beats, Heartbeat, Operation, Run, User
from tasks.running import condition, counting, heartbeats

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services")]
AWAY = {"REMOTE_ADDR": "203.0.113.9"}
TOKEN = "t0ken-of-prometheus"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, services: None) -> Iterator[None]:
    """Nothing was looked at yet, and nothing counted."""
    monkeypatch.setattr(condition, "_kept", None)
    monkeypatch.setattr(condition, "FREE", 0)
    monkeypatch.setattr(condition, "LEAST_FREE", 0)
    counting._redis().delete(counting.HASH)
    yield
    counting._redis().delete(counting.HASH)


@pytest.fixture
def all_at_work() -> None:
    for kind in Beats:
        heartbeats.beat(kind)


def without_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr("django.db.backends.postgresql.base.DatabaseWrapper.cursor", refuse)
    monkeypatch.setattr("django.db.backends.postgresql.base.DatabaseWrapper.connect", refuse)
    params = {"host": "/tmp/no-such-folder", "dbname": "x", "user": "x"}
    monkeypatch.setattr("django.db.backends.postgresql.base.DatabaseWrapper.get_connection_params", lambda _: params)


def samples(text: str, parse: Callable[[str], Any] = plain) -> dict[tuple[str, ...], float]:
    """(name, label values by the order of the labels' names) → value."""
    return {(s.name, *s.labels.values()): s.value for family in parse(text) for s in family.samples}


def test_healthz_needs_no_database_and_no_session(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    without_database(monkeypatch)
    response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("host", ["10.1.2.3", "10.1.2.3:8000", "[fd00::1]:8000", "who-knows", "not a host", ""])
@pytest.mark.usefixtures("all_at_work")
def test_load_balancers_ask_by_any_host(client: Client, path: str, host: str) -> None:
    assert client.get(path, headers={"Host": host}).status_code == 200
    assert client.get("/", headers={"Host": "who-knows"}).status_code == 400


@pytest.mark.usefixtures("all_at_work")
def test_ready_with_each_check_and_its_sentence(client: Client) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200, response.content
    told = response.json()
    assert told["status"] == "ok"
    assert set(told["checks"]) == {"database", "follow", "gateway", "worker", "operations", "reconcile", "redis", "disk"}
    assert told["checks"]["redis"] == {"state": "ok", "sentence": "Redis answers."}


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (lambda: Heartbeat.objects.filter(kind=Beats.FOLLOW).update(at=Now() - timedelta(seconds=43)), "follow", "was last heard of 4"),
        (lambda: Heartbeat.objects.filter(kind=Beats.GATEWAY).delete(), "gateway", "The gateway was not heard of"),
        (
            lambda: Heartbeat.objects.filter(kind=Beats.RECONCILE).update(at=Now() - timedelta(seconds=70)),
            "reconcile",
            "was last heard of 7",
        ),
    ],
)
@pytest.mark.usefixtures("all_at_work")
def test_who_is_not_at_work_is_named(client: Client, change: Callable[[], object], check: str, words: str) -> None:
    change()
    response = client.get("/readyz")
    assert response.status_code == 503
    told = response.json()
    assert told["status"] == "not ok"
    assert told["checks"][check]["state"] == "problem"
    assert words in told["checks"][check]["sentence"]


@pytest.mark.usefixtures("all_at_work")
def test_another_host_that_is_gone_takes_nobody_else_out_of_service(client: Client) -> None:
    Heartbeat.objects.create(kind=Beats.FOLLOW, host="b", pid=1, at=Now() - timedelta(seconds=60))
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json()["checks"]["follow"]["state"] == "warning"
    assert "of b was last heard of 6" in response.json()["checks"]["follow"]["sentence"]


@pytest.mark.usefixtures("all_at_work")
def test_a_full_disk_and_a_missing_redis_are_named(client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "FREE", 2**60)
    monkeypatch.setattr(condition, "LEAST_FREE", 2**60)
    settings.REDIS_URL = "unix:///tmp/no-such-socket"
    checks = client.get("/readyz").json()["checks"]
    assert {name for name, told in checks.items() if told["state"] == "problem"} == {"redis", "disk"}
    assert "Make room" in checks["disk"]["sentence"]


def test_without_a_database_it_says_so_and_no_session_is_asked_for(client: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client.force_login(alice)
    without_database(monkeypatch)
    response = client.get("/readyz", **AWAY)
    assert (response.status_code, response.json()) == (503, {"status": "not ok"})
    monkeypatch.setattr(condition, "_kept", None)
    assert "does not answer" in client.get("/readyz").json()["checks"]["database"]["sentence"]
    metrics = client.get("/metrics")
    assert (metrics.status_code, metrics["Content-Type"]) == (503, "text/plain; charset=utf-8")


def test_a_flood_of_questions_is_one_look(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(condition, "look", lambda: looks.append(1) or [])
    for _ in range(20):
        client.get("/readyz", **AWAY)
    assert len(looks) == 1


def ask(client: Client, path: str, **headers: str) -> bool:
    """Whether we were told."""
    response = client.get(path, **headers)  # type: ignore[arg-type]
    if path == "/metrics":
        return response.status_code == 200
    return "checks" in response.json()


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
def test_strangers_are_told_nothing_but_ok_or_not(client: Client, alice: User, bob: User, settings: Settings, path: str) -> None:
    assert ask(client, path)  # from this machine
    assert ask(client, path, HTTP_HOST="127.0.0.1:8000", REMOTE_ADDR="::ffff:127.0.0.1")
    assert not ask(client, path, **AWAY)
    assert not ask(client, path, HTTP_X_FORWARDED_FOR="127.0.0.1")  # by a proxy here, whatever it was told
    assert not ask(client, path, HTTP_HOST="rebound.example")  # a page whose name leads here now
    assert not ask(client, path, **AWAY, HTTP_AUTHORIZATION="Bearer ")  # no token is set
    settings.METRICS_TOKEN = TOKEN
    assert ask(client, path, **AWAY, HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    assert not ask(client, path, **AWAY, HTTP_AUTHORIZATION=f"Bearer {TOKEN}x")
    assert not ask(client, path, **AWAY, HTTP_AUTHORIZATION="Bearer größe")
    settings.PUBLIC_URL = "https://asynccode.example"  # behind a proxy everybody comes from here
    assert not ask(client, path)
    assert ask(client, path, HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    client.force_login(bob)
    assert not ask(client, path, **AWAY)
    client.force_login(alice)
    assert ask(client, path, **AWAY)


def test_metrics_tell_what_rows_and_counters_say(client: Client, settings: Settings, make_run: Callable[..., Run]) -> None:
    django_rq.get_queue("runs").empty()  # of what other tests have sent
    make_run(status="queued", queued_at=Now() - timedelta(seconds=90))
    make_run(status="queued", queued_at=Now() - timedelta(hours=2), not_before=Now() + timedelta(hours=1))
    run = make_run(status="running", sandbox=True)
    Run.objects.filter(pk=run.pk).update(started_at=Now() - timedelta(seconds=50))
    run.sandboxes.update(seen_at=Now() - timedelta(seconds=30))
    Operation.objects.create(kind="mirror", subject="repo:1")
    heartbeats.beat(Beats.FOLLOW)
    counting.EVENTS.add(1200)
    counting.MODEL_TOKENS.add(500, "openai", "output")
    counting.MODEL_COST.add(0.25, "openai")
    for seconds in (0.08, 0.09, 400.0):
        counting.START_SECONDS.observe(seconds, "local", "made")
    counting.START_FAILURES.add(1, "e2b", "made", "SandboxLimited")

    response = client.get("/metrics")
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    found = samples(response.content.decode())
    assert found["asynccode_runs", "queued"] == 2
    assert found["asynccode_runs", "succeeded"] == 0
    assert 90 <= found["asynccode_queue_age_seconds",] < 110
    assert 30 <= found["asynccode_follower_lag_seconds",] < 49
    assert found["asynccode_sandboxes", "local", "live"] == 1
    assert found["asynccode_operations", "mirror", "queued"] == 1
    assert found["asynccode_heartbeat_age_seconds", settings.HOST_NAME, "follow"] < 20
    assert found["asynccode_events_total",] == 1200
    assert found["asynccode_model_tokens_total", "output", "openai"] == 500
    assert found["asynccode_model_cost_usd_total", "openai"] == 0.25
    assert found["asynccode_sandbox_start_failures_total", "e2b", "made", "SandboxLimited"] == 1
    assert found["asynccode_sandbox_start_seconds_bucket", "local", "made", "0.05"] == 0
    assert found["asynccode_sandbox_start_seconds_bucket", "local", "made", "0.1"] == 2
    assert found["asynccode_sandbox_start_seconds_bucket", "local", "made", "+Inf"] == 3
    assert found["asynccode_sandbox_start_seconds_count", "local", "made"] == 3
    assert found["asynccode_jobs_waiting", "runs"] == 0
    assert found["asynccode_redis_up",] == 1


def test_metrics_in_the_newer_format(client: Client) -> None:
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response["Content-Type"].startswith("application/openmetrics-text")
    assert samples(response.content.decode(), openmetrics)["asynccode_events_total",] == 0


def test_without_redis_rows_are_told_all_the_same(client: Client, settings: Settings, make_run: Callable[..., Run]) -> None:
    make_run(status="queued")
    counting._redis.cache_clear()
    settings.REDIS_URL = "unix:///tmp/no-such-socket"
    try:
        found = samples(client.get("/metrics").content.decode())
    finally:
        counting._redis.cache_clear()
    assert found["asynccode_redis_up",] == 0
    assert found["asynccode_runs", "queued"] == 1
    assert ("asynccode_events_total",) not in found


def test_every_metric_is_in_the_documentation(client: Client, settings: Settings) -> None:
    families = plain(client.get("/metrics").content.decode())
    text = (settings.BASE_DIR / "docs" / "operations.md").read_text()
    assert [family.name for family in families if f"`{family.name}" not in text] == []
