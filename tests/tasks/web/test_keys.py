"""Keys in the settings: saved after a check, write-only, the site's for operators only; and what was spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from tasks import credentials, limits
from tasks.models import Budget, BudgetScope, Credential, ModelCall, Run, User
from tests.tasks.provider import GOOD, Provider, provider

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
BAD = "sk-bad-0123456789abcdefgh"
NO_KEYS = dict.fromkeys(("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY"), "")


@pytest.fixture(autouse=True)
def _own_counters(settings: Settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    for name, nothing in NO_KEYS.items():
        setattr(settings, name, nothing)


@pytest.fixture
def there(settings: Settings) -> Iterator[Provider]:
    """A provider that may be asked."""
    with provider() as it:
        settings.ALLOW_PRIVATE_HOSTS = frozenset({it.address})
        yield it


def form(there: Provider, **more: str) -> dict[str, str]:
    return {"provider": "openai", "secret": GOOD, "base_url": there.url} | more


def save(user: User, there: Provider, provider: str = "openai", **more: Any) -> Credential:
    return credentials.save_credential(by=user, provider=provider, secret=GOOD, base_url=there.url, **more)


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_key_is_saved_and_never_shown(as_bob: Client, bob: User, there: Provider, headers: dict[str, str]) -> None:
    response = as_bob.post("/settings/keys", form(there), headers=headers)
    if not headers:
        assert response.headers["Location"] == "/settings/#keys"
        response = as_bob.get("/settings/")
    page = response.content.decode()
    assert "Your key of OpenAI is saved, and works." in page
    assert "…cdef" in page
    assert GOOD not in page
    assert Credential.objects.get().owner == bob


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_refused_key_is_said_beside_its_field(as_bob: Client, there: Provider, headers: dict[str, str]) -> None:
    response = as_bob.post("/settings/keys", form(there, secret=BAD), headers=headers)
    page = response.content.decode()
    assert response.status_code == 422
    assert f"OpenAI does not take this key (401). {there.address} says: invalid x-api-key" in page
    assert f'value="{there.url}"' in page
    assert page.count("<details open") == 2
    assert BAD not in page
    assert not Credential.objects.exists()


def test_a_key_that_cannot_be_checked_has_a_button_to_try_again(as_bob: Client, there: Provider) -> None:
    there.status = 503
    as_bob.post("/settings/keys", form(there, secret=BAD))
    page = as_bob.get("/settings/").content.decode()
    assert f"It is not checked yet: {there.address} has no time now (503)." in page
    there.status, there.answer = 200, {"data": []}
    address = f"/settings/keys/{Credential.objects.get().pk}/check"
    assert address in page
    assert as_bob.get(address).status_code == 405
    part = as_bob.post(address, headers=HTMX).content.decode()
    assert "Your key of OpenAI works." in part
    assert "not checked yet" not in part


def test_removing_asks_first(as_bob: Client, bob: User, there: Provider) -> None:
    address = f"/settings/keys/{save(bob, there).pk}/remove"
    assert "Remove your key of OpenAI?" in as_bob.get(address).content.decode()
    assert Credential.objects.exists()
    assert as_bob.post(address).headers["Location"] == "/settings/#keys"
    assert not Credential.objects.exists()


def test_the_sites_keys_are_for_operators(as_alice: Client, as_bob: Client, alice: User, there: Provider) -> None:
    assert "The site’s keys" not in as_bob.get("/settings/").content.decode()
    refused = as_bob.post("/settings/keys", form(there, for_site="on"))
    assert refused.status_code == 422
    assert not Credential.objects.exists()
    assert as_alice.post("/settings/keys", form(there, for_site="on")).status_code == 302
    sites = Credential.objects.get()
    assert sites.owner is None
    page = as_bob.get("/settings/").content.decode()
    assert "The site’s key is used" in page
    assert "…cdef" not in page
    for deed in ("check", "remove"):
        assert as_bob.post(f"/settings/keys/{sites.pk}/{deed}").status_code == 404
    assert "…cdef" in as_alice.get("/settings/").content.decode()


def test_somebody_elses_key_is_not_there(as_alice: Client, bob: User, there: Provider) -> None:
    his = save(bob, there)
    for deed in ("check", "remove"):
        assert as_alice.post(f"/settings/keys/{his.pk}/{deed}").status_code == 404
    assert Credential.objects.filter(pk=his.pk).exists()


def test_a_key_in_the_environment_is_told_of(as_bob: Client, settings: Settings) -> None:
    assert "From the environment" not in as_bob.get("/settings/").content.decode()
    settings.ANTHROPIC_API_KEY = "sk-ant-environment-wxyz"
    page = as_bob.get("/settings/").content.decode()
    assert page.count("From the environment of this server") == 1
    assert "wxyz" not in page


def test_tries_are_counted(as_bob: Client, bob: User, there: Provider) -> None:
    while not limits.KEYS.take(str(bob.pk)):
        pass
    assert as_bob.post("/settings/keys", form(there)).status_code == 429
    assert there.asked == []


# --- what was spent -----------------------------------------------------------------------------------------------------


def spend(run: Run, usd: str) -> None:
    owner, turn = run.task.owner, run.turns.get()
    ModelCall.objects.create(user=owner, run=run, turn=turn, provider="openai", model="gpt-5", status=200, cost_usd=usd)


def test_without_budgets_nothing_is_said_of_spending(as_bob: Client) -> None:
    assert "Spending" not in as_bob.get("/settings/").content.decode()


def test_spending_is_shown_beside_the_budget(
    as_alice: Client, as_bob: Client, alice: User, bob: User, make_run: Callable[..., Run]
) -> None:
    Budget.objects.create(scope=BudgetScope.USER, usd=10)
    Budget.objects.create(scope=BudgetScope.SITE, usd=100)
    Budget.objects.create(scope=BudgetScope.RUN, usd=3)
    spend(make_run(owner=bob), "10.5")
    spend(make_run(owner=alice), "1.25")
    page = as_bob.get("/settings/").content.decode()
    assert "<b>$10.50</b> of $10.00" in page
    assert "This budget is used up" in page
    assert "Everybody has spent" not in page
    assert "$3.00" in page
    page = as_alice.get("/settings/").content.decode()
    assert "<b>$1.25</b> of $10.00" in page
    assert "<b>$11.75</b> of $100.00" in page
    assert "This budget is used up" not in page
