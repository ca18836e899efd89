"""The audit log: what is written into it, that no secret is, and that it stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from asynccode import startup
from tasks import accounts, audit, credentials, operating, outgoing, services, tokens
from tasks.models import ApiToken, AuditEntry, AuditKind, Price, Run, RunStatus, User
from tests.tasks.provider import GOOD, provider

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture
def operator(alice: User) -> Client:
    client = Client(REMOTE_ADDR="203.0.113.7")
    client.force_login(alice)
    return client


def written() -> list[tuple[str, str, str]]:
    return list(AuditEntry.objects.order_by("pk").values_list("kind", "username", "subject"))


def test_it_stays_as_it_is(alice: User) -> None:
    audit.record(AuditKind.TOKEN_MADE, by=alice, subject=alice)
    for change in (lambda: AuditEntry.objects.update(username="bob"), lambda: AuditEntry.objects.all().delete()):
        with pytest.raises(DatabaseError, match="stay as they are"), transaction.atomic():
            change()
    pk = alice.pk
    alice.delete()
    assert AuditEntry.objects.get().user_id == pk


def test_signing_in_and_out(client: Client, settings: Settings, bob: User) -> None:
    settings.PASSWORD_LOGIN = True
    bob.set_password("a long password")
    bob.save()
    for name, password in [("bob", "wrong"), ("my secret password", "x"), ("bob", "a long password")]:
        client.post(reverse("sign-in"), {"username": name, "password": password}, REMOTE_ADDR="2001:db8::1")
    client.post(reverse("sign-out"))
    client.post(accounts.create_login_link(user=bob).replace(settings.BASE_URL, ""))
    client.post(reverse("login-link", args=["unknown"]), REMOTE_ADDR="fe80::1%eth0")
    assert written() == [
        ("sign_in_failed", "", f"user:{bob.pk}"),
        ("sign_in_failed", "", ""),
        ("signed_in", "bob", f"user:{bob.pk}"),
        ("signed_out", "bob", f"user:{bob.pk}"),
        ("login_link_made", "", f"user:{bob.pk}"),
        ("signed_in", "bob", f"user:{bob.pk}"),
        ("sign_in_failed", "", ""),
    ]
    assert AuditEntry.objects.filter(kind="signed_in").order_by("pk")[0].address == "2001:db8::1"
    assert AuditEntry.objects.latest("pk").address == "fe80::1"
    assert "password" not in json.dumps(list(AuditEntry.objects.exclude(detail__way="password").values_list("detail", flat=True)))
    assert not AuditEntry.objects.filter(detail__icontains="my secret").exists()


def test_tokens_keys_and_webhooks_without_their_secrets(alice: User, settings: Settings) -> None:
    token, secret = tokens.create_token(user=alice, name="ci", scope="read", expires_in_days=7)
    tokens.revoke_token(token=token, by=alice)
    tokens.revoke_token(token=token, by=alice)  # which changes nothing
    with provider() as there:
        settings.ALLOW_PRIVATE_HOSTS = frozenset({there.address})
        key = credentials.save_credential(by=alice, provider="openai", secret=GOOD, base_url=there.url)
    credentials.delete_credential(credential=key, by=alice)
    webhook, signs = outgoing.add(by=alice, url="https://example.org/hook?key=hidden", events=["run.failed"])
    outgoing.remove(webhook=webhook, by=alice)
    assert [kind for kind, _, _ in written()] == [
        "token_made", "token_revoked", "key_saved", "key_removed", "webhook_added", "webhook_removed",
    ]  # fmt: skip
    said = json.dumps(list(AuditEntry.objects.values("subject", "detail")))
    assert not any(word in said for word in (secret, GOOD, signs, "hidden"))


def test_users_and_passwords_that_are_made_in_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    call_command("createsuperuser", interactive=False, username="dora", email="dora@example.org", verbosity=0)
    dora = User.objects.get()
    monkeypatch.setattr("getpass.getpass", lambda prompt="": "a long password")
    call_command("changepassword", "dora", stdout=StringIO())
    for command in (("createsuperuser", "--noinput", "--username", "dora", "--email", "x@example.org"), ("changepassword", "nobody")):
        with pytest.raises(CommandError):
            call_command(*command, stdout=StringIO())
    assert written() == [("user_added", "", f"user:{dora.pk}"), ("password_changed", "", f"user:{dora.pk}")]
    assert "a long password" not in json.dumps(list(AuditEntry.objects.values_list("detail", flat=True)))


def test_the_first_operator_is_written_down() -> None:
    operator = startup.first_operator()
    assert startup.first_operator() == operator
    assert written() == [("user_added", "", f"user:{operator.pk}")]


def test_secrets_that_are_written_under_another_key(alice: User, settings: Settings) -> None:
    for number in range(2):
        outgoing.add(by=alice, url=f"https://example.org/{number}", events=["run.failed"])
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.ENCRYPTION_KEYS]
    for _ in range(2):  # the second time there is nothing left to do
        call_command("rotate-keys", stdout=StringIO())
    found = AuditEntry.objects.filter(kind="secrets_rotated")
    assert [(entry.subject, entry.detail) for entry in found] == [("outgoingwebhook", {"secrets": 2})]


def test_what_is_done_to_others(make_run: MakeRun, alice: User, bob: User) -> None:
    own, others = make_run(status=RunStatus.RUNNING), make_run(owner=bob, status=RunStatus.RUNNING)
    for run in (own, others):
        services.cancel_run(run=run, by=alice)
        Run.objects.filter(pk=run.pk).update(status=RunStatus.FAILED)
        run.refresh_from_db()
        services.retry_run(run=run, by=alice)
    assert written() == [("run_stopped", "alice", f"run:{others.pk}"), ("run_retried", "alice", f"run:{others.pk}")]
    idle = make_run(sandbox=True, status=RunStatus.SUCCEEDED).sandboxes.get()
    operating.destroy_sandbox(sandbox=idle, by=alice)
    assert written()[-1] == ("sandbox_destroyed", "alice", f"sandbox:{idle.pk}")


def test_what_operators_choose(operator: Client, alice: User, bob: User) -> None:
    price = {"model": HOSTILE, "input_usd": "1", "cached_usd": "1", "cache_write_usd": "1", "output_usd": "2.5"}
    assert operator.post("/admin/tasks/price/add/", price).status_code == 302
    row = Price.objects.get(model=HOSTILE)
    operator.post(f"/admin/tasks/price/{row.pk}/change/", price | {"output_usd": "3"})
    operator.post(f"/admin/tasks/price/{row.pk}/delete/", {"post": "yes"})
    assert [(kind, who) for kind, who, _ in written()] == [("added", "alice"), ("changed", "alice"), ("deleted", "alice")]
    changed = AuditEntry.objects.get(kind="changed")
    assert changed.detail["output_usd"] == "3"
    assert changed.address == "203.0.113.7"


def test_the_log_is_read_and_searched(operator: Client, alice: User, bob: User) -> None:
    audit.record(AuditKind.KEY_SAVED, by=alice, subject=alice, name=HOSTILE)
    audit.record(AuditKind.KEY_SAVED, by=bob, subject="run:7")
    for term, number in {"alice": 1, "bob": 1, "run:7": 1, "ali": 0, "": 2}.items():
        found: Any = operator.get("/admin/tasks/auditentry/", {"q": term})
        assert found.context["cl"].result_count == number
        assert "<script>alert" not in found.content.decode()
    assert operator.get("/admin/tasks/auditentry/?kind__exact=key_saved").context["cl"].result_count == 2
    row = AuditEntry.objects.first()
    assert row is not None
    assert operator.get(f"/admin/tasks/auditentry/{row.pk}/change/").status_code == 200
    assert operator.post(f"/admin/tasks/auditentry/{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_tokens_of_others_are_revoked_by_operators(operator: Client, bob: User) -> None:
    token = ApiToken.objects.create(user=bob, name="ci", digest="1", hint="ac_1")
    operator.post("/admin/tasks/apitoken/", {"action": "revoke", "_selected_action": [token.pk]})
    assert written() == [("token_revoked", "alice", f"apitoken:{token.pk}")]


def test_users_have_their_budget_and_quota_beside_them(operator: Client, alice: User, bob: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    page = f"/admin/tasks/user/{bob.pk}/change/"
    assert "this month" in operator.get(page).content.decode()
    form = {
        "username": "bob", "theme": "system", "notify": "never", "is_active": "on",
        "budgets-TOTAL_FORMS": "1", "budgets-INITIAL_FORMS": "0", "budgets-0-usd": "12.50",
        "quotas-TOTAL_FORMS": "1", "quotas-INITIAL_FORMS": "0", "quotas-0-at_once": "3",
    }  # fmt: skip
    assert operator.post(page, form).status_code == 302
    assert [(budget.scope, budget.usd) for budget in bob.budgets.all()] == [("user", Decimal("12.50"))]
    assert [(quota.scope, quota.at_once, quota.a_day) for quota in bob.quotas.all()] == [("user", 3, None)]
    assert {kind for kind, _, _ in written()} == {"user_changed", "added"}
    assert "of $12.50 this month" in operator.get(page).content.decode()
