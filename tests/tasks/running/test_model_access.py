"""Whose key a turn's agent works with, who may ask a model, and when a budget ends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from agents import registry
from agents.adapters.base import Adapter, Launch, ModelAccess, Provider, TurnRequest
from tasks.errors import AppError
from tasks.models import Budget, BudgetScope, Credential, CredentialKind, EndReason, ModelCall, Price, Run, Turn, User
from tasks.running import backends, model_access
from tasks.running.model_access import Call, Grant, Key, Refusal
from tasks.running.offers import Offers

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]

CALL = Call(model="parrot-2-large", asked="parrot-2", status=200, is_whole=True, seconds=1.5, input_tokens=1000, output_tokens=100)


class Parrot(Adapter):
    """An agent that speaks to Anthropic's API."""

    name = "parrot"
    label = "Parrot"
    providers = (Provider.ANTHROPIC,)

    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch:
        return Launch(["true"])

    def parse(self, line: str, state: dict[str, Any], *, stream: str = "stdout") -> Any:
        return iter(())


@pytest.fixture(autouse=True)
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent with a model, and an environment without keys."""
    monkeypatch.setitem(registry.ADAPTERS, "parrot", Parrot())
    for name in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY"):
        setattr(settings, name, "")
    for name in ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
        setattr(settings, name, "")


def store(owner: User | None, secret: str, provider: str = "anthropic", **fields: Any) -> Credential:
    row = Credential(owner=owner, provider=provider, **fields)
    row.secret = secret
    row.save()
    return row


@pytest.fixture
def run(make_run: MakeRun, alice: User) -> Run:
    """Alice's run of Parrot, at work, with a key of hers."""
    store(alice, "sk-alice")
    return make_run(agent="parrot", status="running", sandbox=True)


def first(run: Run) -> Turn:
    return run.turns.get(number=1)


def access_of(run: Run) -> ModelAccess:
    return model_access.access(model_access.way(run, run.sandboxes.get()), first(run), run.generation)


def ask(run: Run, token: str = "", key: str = "", provider: str = "anthropic") -> Grant | Refusal:
    return model_access.open(key or backends.key(run.pk, run.generation), token or model_access.token(first(run), run.generation), provider)


def granted(run: Run) -> Grant:
    grant = ask(run)
    assert isinstance(grant, Grant)
    return grant


# Keys


def test_ones_own_key_comes_before_the_sites_and_that_before_the_environments(alice: User, settings: Settings) -> None:
    settings.ANTHROPIC_API_KEY, settings.ANTHROPIC_BASE_URL = "sk-env", "https://env.example"
    assert model_access.key_for(alice, "anthropic") == Key("anthropic", "sk-env", "https://env.example", source="environment")
    store(None, "sk-site", base_url="https://site.example")
    assert model_access.key_for(alice, "anthropic") == Key("anthropic", "sk-site", "https://site.example", source="site")
    store(alice, "sk-alice")
    assert model_access.key_for(alice, "anthropic") == Key("anthropic", "sk-alice", "", source="you"), "and goes to no address of theirs"


def test_nobody_gets_anothers_key(alice: User, bob: User) -> None:
    store(bob, "sk-bob")
    assert model_access.key_for(alice, "anthropic") is None
    assert Offers.to(alice).keys == set()


def test_a_subscription_is_a_key(alice: User, settings: Settings) -> None:
    settings.CLAUDE_CODE_OAUTH_TOKEN = "oat-env"
    assert model_access.key_for(alice, "anthropic") == Key("anthropic", "oat-env", is_subscription=True, source="environment")
    store(alice, "oat-alice", kind=CredentialKind.SUBSCRIPTION)
    assert model_access.key_for(alice, "anthropic") == Key("anthropic", "oat-alice", is_subscription=True, source="you")


def test_which_providers_have_a_key_is_one_query(alice: User, settings: Settings, django_assert_num_queries: Any) -> None:
    settings.GEMINI_API_KEY = "env"
    store(alice, "sk-alice", "openai")
    store(None, "sk-site", "openai")
    with django_assert_num_queries(1):
        assert Offers.to(alice).keys == {Provider.OPENAI, Provider.GEMINI}


def test_a_key_shows_its_secret_in_no_message() -> None:
    assert "sk-" not in repr(Key("anthropic", "sk-alice"))


# What an agent gets


def test_an_agent_gets_a_token_that_stays_the_same_for_its_turn_and_generation(run: Run) -> None:
    access = access_of(run)
    assert access == ModelAccess("anthropic", "http://127.0.0.1:3128/anthropic", model_access.token(first(run), 1), False)
    assert access.token.startswith(f"act-{first(run).pk}-1-")
    assert access.token != model_access.token(first(run), 2)
    assert "sk-alice" not in access.token


def test_an_agent_without_a_key_says_what_to_do(make_run: MakeRun) -> None:
    run = make_run(agent="parrot", sandbox=True)
    with pytest.raises(AppError, match=r"^Parrot needs a key of Anthropic\. Add one under Settings → Keys\.$"):
        access_of(run)


def test_an_agent_without_a_model_gets_nothing(make_run: MakeRun) -> None:
    run = make_run(agent="shell", sandbox=True)
    assert access_of(run) == ModelAccess()


# Who may ask


def test_a_turn_at_work_may_ask(run: Run, alice: User) -> None:
    assert ask(run) == Grant(first(run).pk, run.pk, alice.pk, Key("anthropic", "sk-alice", source="you"))


def test_another_sandboxs_token_is_refused(run: Run, make_run: MakeRun) -> None:
    other = make_run(agent="parrot", status="running", sandbox=True)
    stolen = model_access.token(first(other), 1)
    assert ask(run, token=stolen) == Refusal(401, "asynccode: This token is not one of this sandbox.")
    assert isinstance(ask(other, token=stolen), Grant)


@pytest.mark.parametrize("token", ["", "act", "act-1-1-" + "0" * 64, "act-٣-1-" + "0" * 64, "sk-alice", "act-1-1-\x00"])
def test_what_is_no_token_is_refused(run: Run, token: str) -> None:
    answer = ask(run, token=token or "-")
    assert isinstance(answer, Refusal)
    assert answer.status == 401


@pytest.mark.parametrize("key", ["x", "x:y:z", "0123456789:1:1"])
def test_a_socket_that_is_not_ours_is_refused(run: Run, key: str) -> None:
    assert isinstance(ask(run, key=key), Refusal)


def test_an_earlier_generation_is_refused(run: Run) -> None:
    old, key = model_access.token(first(run), 1), backends.key(run.pk, 1)
    Run.objects.update(generation=2)
    assert isinstance(ask(run, token=old, key=key), Refusal)
    assert isinstance(ask(run, token=old, key=backends.key(run.pk, 2)), Refusal)


@pytest.mark.parametrize("status", ["queued", "waiting", "succeeded", "failed", "errored", "canceled", "interrupted"])
def test_a_turn_that_is_over_is_refused(run: Run, status: str) -> None:
    run.turns.update(status=status)
    assert ask(run) == Refusal(403, "asynccode: This turn is over.")


def test_a_turn_whose_agent_has_ended_is_refused(run: Run) -> None:
    run.turns.update(outcome={"reason": "exit"})
    assert ask(run) == Refusal(403, "asynccode: This turn is over.")


def test_a_run_that_is_being_stopped_is_refused(run: Run) -> None:
    Run.objects.update(stop_requested_at=timezone.now())
    assert ask(run) == Refusal(403, "asynccode: This run is being stopped.")


def test_another_providers_api_is_refused(run: Run, alice: User) -> None:
    store(alice, "sk-openai", "openai")
    assert ask(run, provider="openai") == Refusal(403, "asynccode: The model of this run is not one of OpenAI.")


def test_a_key_that_was_removed_is_missed_at_the_next_request(run: Run) -> None:
    Credential.objects.all().delete()
    assert ask(run) == Refusal(401, "asynccode: Parrot needs a key of Anthropic. Add one under Settings → Keys.")


def test_a_key_that_was_changed_counts_from_the_next_request_on(run: Run, alice: User) -> None:
    row = Credential.objects.get(owner=alice)
    row.secret = "sk-new"
    row.save()
    assert granted(run).key.secret == "sk-new"


def test_asking_takes_three_queries(run: Run, django_assert_num_queries: Any) -> None:
    key, token = backends.key(run.pk, 1), model_access.token(first(run), 1)
    with django_assert_num_queries(3):
        model_access.open(key, token, "anthropic")


# What was spent


def price(model: str, given: str, cached: str, written: str, output: str) -> None:
    Price.objects.create(
        model=model, input_usd=Decimal(given), cached_usd=Decimal(cached), cache_write_usd=Decimal(written), output_usd=Decimal(output)
    )


def test_a_call_is_stored_with_what_it_costs(run: Run, alice: User) -> None:
    Price.objects.all().delete()
    price("parrot", "100", "100", "100", "100")
    price("parrot-2", "3", "0.3", "3.75", "15")
    model_access.record(
        granted(run), replace(CALL, input_tokens=10_000, cached_tokens=6_000, cache_write_tokens=1_000, output_tokens=2_000)
    )
    call = ModelCall.objects.get()
    assert (call.user, call.run, call.turn, call.provider, call.model) == (alice, run, first(run), "anthropic", "parrot-2-large")
    assert (call.status, call.is_whole, call.seconds, call.input_tokens) == (200, True, 1.5, 10_000)
    assert call.cost_usd == Decimal("0.044550"), "3,000 read, 6,000 from the cache, 1,000 written, 2,000 answered"


def test_a_model_that_answers_under_a_name_without_a_price_costs_what_was_asked_for(run: Run) -> None:
    price("parrot-2", "3", "0.3", "3.75", "15")
    model_access.record(granted(run), replace(CALL, model="finch"))
    assert ModelCall.objects.get().cost_usd == Decimal("0.0045")


def test_a_model_without_a_price_is_stored_without_a_cost(run: Run) -> None:
    model_access.record(granted(run), replace(CALL, model="", asked="unheard-of"))
    call = ModelCall.objects.get()
    assert (call.model, call.cost_usd) == ("unheard-of", None)


def test_why_the_last_call_was_refused_is_known(run: Run) -> None:
    said = []
    for refused in ("", "rate_limit", "credit", ""):
        model_access.record(granted(run), replace(CALL, refused=refused))
        said.append(model_access.last_refusal(first(run)))
    assert said == [None, "rate_limit", "credit", None]


def test_a_call_of_a_run_that_was_deleted_is_nobodys(run: Run) -> None:
    grant = granted(run)
    run.delete()
    model_access.record(grant, CALL)
    assert not ModelCall.objects.exists()


# Budgets


@pytest.fixture
def dear() -> None:
    """A call costs a dollar."""
    price("parrot-2", "1000", "0", "0", "0")


def budget(scope: BudgetScope, usd: str, user: User | None = None) -> Budget:
    return Budget.objects.create(scope=scope, usd=Decimal(usd), user=user)


def why(run: Run) -> tuple[str, str]:
    run.refresh_from_db()
    turn = first(run)
    assert (run.stop_requested_at is not None) == bool(turn.end_reason)
    return turn.end_reason, turn.end_text


@pytest.mark.usefixtures("dear")
def test_a_runs_budget_ends_its_turn_with_a_reason(run: Run) -> None:
    budget(BudgetScope.RUN, "2")
    grant = granted(run)
    model_access.record(grant, CALL)
    assert why(run) == ("", "")
    model_access.record(grant, CALL)
    assert why(run) == (EndReason.BUDGET, "The budget of this run ($2.00) is used up.")
    assert ask(run) == Refusal(403, "asynccode: The budget of this run ($2.00) is used up.")


@pytest.mark.usefixtures("dear")
def test_what_one_run_spends_is_not_anothers(run: Run, make_run: MakeRun) -> None:
    budget(BudgetScope.RUN, "1")
    other = make_run(agent="parrot", status="running", sandbox=True)
    model_access.record(granted(run), CALL)
    assert isinstance(ask(other), Grant)


@pytest.mark.usefixtures("dear")
def test_a_persons_month_counts_all_their_runs(run: Run, make_run: MakeRun, bob: User) -> None:
    budget(BudgetScope.USER, "1")
    store(bob, "sk-bob")
    mine, theirs = make_run(agent="parrot", status="running"), make_run(owner=bob, agent="parrot", status="running")
    model_access.record(granted(run), CALL)
    assert why(run)[1] == "Your budget of this month ($1.00) is used up."
    refusal = Refusal(403, "asynccode: Your budget of this month ($1.00) is used up. An operator can raise it.")
    assert ask(mine) == refusal
    assert why(mine) == (EndReason.BUDGET, "Your budget of this month ($1.00) is used up."), "it ends with its next request"
    assert isinstance(ask(theirs), Grant)


@pytest.mark.usefixtures("dear")
def test_a_persons_own_budget_counts_instead_of_the_one_for_each(run: Run, alice: User, bob: User) -> None:
    budget(BudgetScope.USER, "1")
    budget(BudgetScope.USER, "0", bob)
    budget(BudgetScope.USER, "5", alice)
    model_access.record(granted(run), CALL)
    assert [(s.scope, s.budget_usd, s.spent_usd) for s in model_access.spent(alice.pk)] == [("user", Decimal(5), Decimal(1))]
    assert isinstance(ask(run), Grant)


@pytest.mark.usefixtures("dear")
def test_the_sites_month_counts_everybodys(run: Run, make_run: MakeRun, bob: User) -> None:
    budget(BudgetScope.SITE, "1")
    store(bob, "sk-bob")
    theirs = make_run(owner=bob, agent="parrot", status="running")
    model_access.record(granted(run), CALL)
    assert why(run)[1] == "Everybody's budget of this month ($1.00) is used up."
    assert isinstance(ask(theirs), Refusal)


@pytest.mark.usefixtures("dear")
def test_a_month_begins_anew_in_utc(run: Run, alice: User) -> None:
    budget(BudgetScope.USER, "1")
    grant = granted(run)
    model_access.record(grant, CALL)
    began = model_access.month_began(timezone.now())
    ModelCall.objects.update(at=began)
    assert next(model_access.spent(alice.pk)).is_used_up
    ModelCall.objects.update(at=began - timezone.timedelta(microseconds=1))
    assert not next(model_access.spent(alice.pk)).is_used_up
    assert model_access.month_began(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_budget_of_nothing_lets_nothing_through(run: Run) -> None:
    budget(BudgetScope.RUN, "0")
    assert ask(run) == Refusal(403, "asynccode: The budget of this run ($0.00) is used up. An operator can raise it.")


@pytest.mark.usefixtures("dear")
def test_a_turn_that_its_user_has_stopped_keeps_that_as_its_end(run: Run) -> None:
    budget(BudgetScope.RUN, "1")
    grant = granted(run)
    Run.objects.update(stop_requested_at=timezone.now())
    model_access.record(grant, CALL)
    assert first(run).end_reason == ""


@pytest.mark.usefixtures("dear")
def test_a_later_turn_is_not_ended_by_what_an_earlier_one_spent_after_its_end(run: Run) -> None:
    budget(BudgetScope.RUN, "1")
    grant = granted(run)
    run.turns.update(status="succeeded")
    Turn.objects.create(run=run, number=2, prompt="more", status="running")
    model_access.record(grant, CALL)
    run.refresh_from_db()
    assert run.stop_requested_at is None
