"""How an agent reaches its model from where its sandbox is, where the key is then, and that it is nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from agents import registry
from agents.adapters.base import ModelAccess
from agents.grants import Grant, Key, Refusal
from sandboxes.base import NetworkMode, NetworkPolicy, SandboxSpec
from sandboxes.e2b import network
from tasks.errors import AppError
from tasks.models import Credential, CredentialKind, Event, Run, Sandbox, SandboxStatus, Turn, User
from tasks.running import jobs, model_access, model_ways, redact, specs, usage
from tasks.running.follower import Follower
from tasks.running.journal import Reader
from tasks.running.model_ways import Keys, Way
from tasks.running.prices import Prices
from tests.tasks.running.fake import FakeBox, have_mirror

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
InCloud = Callable[..., tuple[Run, Sandbox, FakeBox]]

SECRET = "sk-the-real-key-0123456789"
PUBLIC_URL = "https://models.example.org"


@pytest.fixture(autouse=True)
def world(settings: Settings) -> None:
    """An environment without keys, and a site without a public address."""
    for name in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY"):
        setattr(settings, name, "")
    for name in ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "GATEWAY_PUBLIC_URL"):
        setattr(settings, name, "")
    settings.ALLOW_PRIVATE_HOSTS = ["plain.example.org", "127.0.0.1:9", "10.0.0.5:443"]


def way(provider: str = "anthropic", base_url: str = "", *, backend: str = "e2b", mode: str = "registries", **key: Any) -> Way:
    return model_ways.way(Key(provider, SECRET, base_url, **key), backend=backend, network=NetworkMode(mode))


# Which way


@pytest.mark.parametrize(
    ("provider", "base_url", "public_url", "keys", "agent_asks", "network_needs"),
    [
        ("anthropic", "", "", Keys.HEADERS, "https://api.anthropic.com", "api.anthropic.com"),
        ("openai", "", "", Keys.HEADERS, "https://api.openai.com", "api.openai.com"),
        ("gemini", "", "", Keys.HEADERS, "https://generativelanguage.googleapis.com", "generativelanguage.googleapis.com"),
        ("openai", "https://proxy.example.org/api/v1", "", Keys.HEADERS, "https://proxy.example.org/api", "proxy.example.org"),
        ("gemini", "https://proxy.example.org/v1beta/", "", Keys.HEADERS, "https://proxy.example.org", "proxy.example.org"),
        ("openai", "https://93.184.215.14/v1", "", Keys.ENVIRONMENT, "https://93.184.215.14", "93.184.215.14"),
        ("openai", "http://plain.example.org/v1", "", Keys.ENVIRONMENT, "http://plain.example.org", "plain.example.org"),
        ("anthropic", "", PUBLIC_URL, Keys.BROKER, f"{PUBLIC_URL}/anthropic", "models.example.org"),
        ("openai", "", f"{PUBLIC_URL}/sub", Keys.BROKER, f"{PUBLIC_URL}/sub/openai", "models.example.org"),
        ("openai", "http://127.0.0.1:9/v1", PUBLIC_URL, Keys.BROKER, f"{PUBLIC_URL}/openai", "models.example.org"),
        ("openai", "http://plain.example.org", PUBLIC_URL, Keys.BROKER, f"{PUBLIC_URL}/openai", "models.example.org"),
        ("openai", "", "http://127.0.0.1:8010", Keys.BROKER, "http://127.0.0.1:8010/openai", "127.0.0.1"),
    ],
)
def test_the_first_way_that_can_be_had(
    settings: Settings, provider: str, base_url: str, public_url: str, keys: Keys, agent_asks: str, network_needs: str
) -> None:
    settings.GATEWAY_PUBLIC_URL = public_url
    found = way(provider, base_url)
    assert (found.keys, found.base_url, found.host) == (keys, agent_asks, network_needs)
    assert bool(found.notice) == (found.token == SECRET) == (keys is Keys.ENVIRONMENT)
    assert bool(found.rule) == (keys is Keys.HEADERS)


@pytest.mark.parametrize("public_url", ["", PUBLIC_URL])
@pytest.mark.parametrize("base_url", ["", "http://127.0.0.1:9/v1"])
def test_a_local_sandbox_always_asks_the_broker_at_its_own_socket(settings: Settings, public_url: str, base_url: str) -> None:
    settings.GATEWAY_PUBLIC_URL = public_url
    assert way("openai", base_url, backend="local") == Way(Keys.BROKER, "openai", "http://127.0.0.1:3128/openai")


@pytest.mark.parametrize(
    ("base_url", "why"),
    [
        ("http://127.0.0.1:9/v1", "a private address"),
        ("https://10.0.0.5/v1", "a private address"),
        ("https://169.254.169.254", "a private address"),
        ("https://[::1]/v1", "an address of IPv6"),
        ("https://localhost", "a name of a private network"),
        ("https://llm", "a name of a private network"),
        ("https://llm.corp.internal/v1", "a name of a private network"),
        ("https://llm.example.org:8443", "port 8443; only 80 and 443 can be reached"),
        ("http://open.example.org", "without encryption"),
    ],
)
def test_what_cannot_be_reached_from_there_is_said(base_url: str, why: str) -> None:
    with pytest.raises(AppError) as error:
        way("openai", base_url)
    assert why in str(error.value)
    assert SECRET not in str(error.value)


def test_where_everything_public_is_open_the_port_does_not_matter() -> None:
    found = way("openai", "https://llm.example.org:8443/v1", mode="public")
    assert (found.keys, found.base_url) == (Keys.ENVIRONMENT, "https://llm.example.org:8443")
    assert "because its address is not a name at port 443; set GATEWAY_PUBLIC_URL to keep it out." in found.notice


@pytest.mark.parametrize("url", ["http://models.example.org", "models.example.org", "https://models.example.org:8443", "ftp://x"])
def test_a_public_address_that_cannot_be_used_is_said(settings: Settings, url: str) -> None:
    settings.GATEWAY_PUBLIC_URL = url
    with pytest.raises(AppError, match="GATEWAY_PUBLIC_URL"):
        way()


@pytest.mark.parametrize(
    ("provider", "is_subscription", "headers"),
    [
        ("anthropic", False, {"x-api-key": SECRET}),
        ("anthropic", True, {"authorization": f"Bearer {SECRET}"}),  # and the agent's own anthropic-beta stays as it is
        ("openai", False, {"authorization": f"Bearer {SECRET}"}),
        ("gemini", False, {"x-goog-api-key": SECRET}),
    ],
)
def test_the_key_goes_into_the_providers_own_header(provider: str, is_subscription: bool, headers: dict[str, str]) -> None:
    found = way(provider, is_subscription=is_subscription)
    assert found.rule is not None
    assert dict(found.rule.headers) == headers
    assert SECRET not in repr(found)


# What a sandbox is given


@pytest.fixture
def make(make_run: MakeRun, alice: User) -> Callable[..., Run]:
    def make(agent: str = "claude", base_url: str = "", *, kind: str = CredentialKind.API_KEY, **fields: Any) -> Run:
        for provider in ("anthropic", "openai", "gemini"):
            row = Credential(owner=alice, provider=provider, base_url=base_url, kind=kind if provider == "anthropic" else "api_key")
            row.secret = SECRET
            row.save()
        run = make_run(agent=agent, **{"backend": "e2b", "status": "running"} | fields)
        Sandbox.objects.create(run=run, generation=run.generation, backend=run.backend, ref=f"r{run.pk}", status=SandboxStatus.LIVE)
        return run

    return make


def first(run: Run) -> Turn:
    return run.turns.get(number=1)


def made_of(run: Run) -> SandboxSpec:
    return model_access.fitted(run, run.sandboxes.get(), SandboxSpec(network=run.task.repo.network_policy))


def given(run: Run) -> dict[str, str]:
    """All that an E2B sandbox of this run is given, as text by where it stands."""
    run.task.repo.setup_script = "make deps"
    turn = specs.build(run, first(run), run.sandboxes.get(), restores_patch=False)
    steps = {step.name: step for step in turn.steps}
    agent = steps.pop("agent")
    return {
        "environment": json.dumps(agent.env),
        "files": json.dumps(agent.files),
        "rest": json.dumps([asdict(turn) | {"steps": [*map(asdict, steps.values()), agent.argv, list(agent.input), agent.acp]}]),
    }


def at_e2b(run: Run) -> dict[str, Any]:
    spec = made_of(run)
    return dict(network.options(spec.network, list(spec.headers)))


AGENTS = ["claude", "codex", "gemini", "copilot", "qwen"]
IN_FILES = ["opencode", "cline"]  # which read their key from a file of settings


@pytest.mark.parametrize("agent", [*AGENTS, *IN_FILES])
@pytest.mark.parametrize("public_url", ["", PUBLIC_URL])
def test_the_key_is_nowhere_in_the_sandbox(make: Callable[..., Run], settings: Settings, agent: str, public_url: str) -> None:
    settings.GATEWAY_PUBLIC_URL = public_url
    run = make(agent, model="anthropic/claude-opus-5-5" if agent == "opencode" else "")
    assert not [place for place, text in given(run).items() if SECRET in text]
    assert (SECRET in json.dumps(at_e2b(run))) == (not public_url)


@pytest.mark.parametrize("agent", AGENTS)
def test_when_it_must_be_inside_it_is_in_the_agents_environment_only(make: Callable[..., Run], agent: str) -> None:
    run = make(agent, "http://plain.example.org")
    assert [place for place, text in given(run).items() if SECRET in text] == ["environment"]
    assert SECRET not in json.dumps(at_e2b(run))
    assert "plain.example.org" in at_e2b(run)["allow_out"]


@pytest.mark.parametrize("agent", IN_FILES)
def test_or_in_the_settings_of_an_agent_that_reads_it_there(make: Callable[..., Run], agent: str) -> None:
    run = make(agent, "http://plain.example.org", model="anthropic/claude-opus-5-5" if agent == "opencode" else "")
    assert "files" in [place for place, text in given(run).items() if SECRET in text]
    assert SECRET not in given(run)["rest"]


def test_with_headers_the_agent_asks_the_provider_and_trusts_who_adds_them(make: Callable[..., Run]) -> None:
    run = make("claude")
    environment = json.loads(given(run)["environment"])
    assert environment["ANTHROPIC_BASE_URL"] == "https://api.anthropic.com"
    assert environment["ANTHROPIC_API_KEY"] == model_ways.PLACEHOLDER
    assert environment["NODE_EXTRA_CA_CERTS"] == environment["SSL_CERT_FILE"] == "/etc/ssl/certs/ca-certificates.crt"
    assert not any("proxy" in name.lower() for name in environment)
    assert at_e2b(run)["rules"] == {"api.anthropic.com": [{"transform": {"headers": {"x-api-key": SECRET}}}]}


def test_by_the_broker_the_agent_has_a_token_of_its_turn(make: Callable[..., Run], settings: Settings) -> None:
    settings.GATEWAY_PUBLIC_URL = PUBLIC_URL
    run = make("claude", kind=CredentialKind.SUBSCRIPTION)
    environment = json.loads(given(run)["environment"])
    assert environment["ANTHROPIC_BASE_URL"] == f"{PUBLIC_URL}/anthropic"
    assert environment["CLAUDE_CODE_OAUTH_TOKEN"] == model_access.token(first(run), run.generation)
    assert at_e2b(run)["allow_out"][-1] == "models.example.org"
    assert not made_of(run).headers


def test_rules_follow_a_key_that_is_replaced(make: Callable[..., Run]) -> None:
    run = make("claude")
    row = Credential.objects.get(provider="anthropic")
    row.secret = "sk-another-0123456789"
    row.save()
    (rule,) = made_of(run).headers
    assert dict(rule.headers) == {"x-api-key": "sk-another-0123456789"}


def test_an_agent_without_a_model_needs_nothing(make_run: MakeRun) -> None:
    run = make_run(agent="shell", backend="e2b", sandbox=True)
    assert model_access.way(run, run.sandboxes.get()) is None
    assert model_access.access(None, first(run), run.generation) == ModelAccess()
    assert made_of(run).network == run.task.repo.network_policy


def test_a_local_sandbox_is_made_of_what_it_was(make: Callable[..., Run]) -> None:
    run = make("claude", backend="local")
    assert made_of(run) == SandboxSpec(network=run.task.repo.network_policy)
    assert model_access.secrets(run) == {}


def test_hosts_that_the_repository_allows_are_allowed_there_too(make: Callable[..., Run]) -> None:
    """Among them those of its MCP servers, which are added to them by its owner."""
    run = make("claude")
    run.task.repo.network_preset, run.task.repo.network_hosts = "none", ["mcp.example.org", "*.example.net"]
    assert at_e2b(run)["allow_out"] == ["api.anthropic.com", "mcp.example.org", "*.example.net"]
    assert network.options(NetworkPolicy(NetworkMode.NONE))["allow_out"] == []


def test_keys_that_could_stand_in_its_words_are_known_by_name(make: Callable[..., Run], settings: Settings) -> None:
    settings.ANTHROPIC_API_KEY = "sk-of-the-environment"
    run = make("claude")
    site = Credential(owner=None, provider="anthropic")
    site.secret = "sk-of-the-site"
    site.save()
    assert model_access.secrets(run) == {
        "key of Anthropic": SECRET,
        "key of OpenAI": SECRET,
        "key of Google Gemini": SECRET,
        "site key of Anthropic": "sk-of-the-site",
        "key of Anthropic in the environment": "sk-of-the-environment",
    }


# What is said of it


def start(in_cloud: InCloud, alice: User, base_url: str) -> Run:
    """A run whose next turn was just handed to the sandbox that it has."""
    row = Credential(owner=alice, provider="anthropic", base_url=base_url)
    row.secret = SECRET
    row.save()
    run, _, _ = in_cloud(agent="claude", status="starting", row={"status": SandboxStatus.PAUSED})
    have_mirror(run)
    jobs.start_turn(run.pk, run.generation)
    run.refresh_from_db()
    assert run.status == "running", run.error
    return run


def notices(run: Run) -> list[str]:
    return [event.data["notice"] for event in Event.objects.filter(run=run, kind="status") if "notice" in event.data]


def test_a_turn_whose_key_is_inside_says_so_once(in_cloud: InCloud, alice: User) -> None:
    run = start(in_cloud, alice, "http://plain.example.org")
    (said,) = notices(run)
    assert said == (
        "The key of Anthropic is in this sandbox's environment, because its address is not https; set GATEWAY_PUBLIC_URL to keep it out."
    )
    jobs.hand_turn(run.pk, run.generation)
    assert notices(run) == [said]


def test_a_turn_whose_key_is_outside_says_nothing(in_cloud: InCloud, alice: User) -> None:
    assert notices(start(in_cloud, alice, "")) == []


def test_keys_are_taken_out_of_what_a_sandbox_elsewhere_says_and_named_when_its_patch_holds_one(make: Callable[..., Run]) -> None:
    run = make("claude")
    Credential.objects.exclude(provider="anthropic").delete()
    redactor = redact.redactor(run)
    assert redactor.text(f"ANTHROPIC_API_KEY={SECRET}") == "ANTHROPIC_API_KEY=•••"
    assert redactor.found_in(f"+{SECRET}".encode()) == ["key of Anthropic"]
    assert redactor.found_in(b"+nothing") == []


@pytest.mark.django_db(transaction=True)
def test_the_follower_knows_the_same_keys(make: Callable[..., Run], settings: Settings) -> None:
    run = make("claude")
    site = Credential(owner=None, provider="anthropic")
    site.secret = "sk-of-the-site"
    site.save()
    stranger = Credential(owner=User.objects.create_user("stranger"), provider="anthropic")
    stranger.secret = "sk-of-a-stranger"
    stranger.save()

    async def known() -> dict[str, str]:
        follower = Follower()
        async with await follower._connect() as conn:
            return await follower._keys(conn, run.task_id)

    assert asyncio.run(known()) == model_access.secrets(run)
    assert len(model_access.secrets(run)) == 4


def test_without_the_brokers_figures_the_agents_own_count(make: Callable[..., Run]) -> None:
    run = make("claude")
    turn = first(run)
    Turn.objects.filter(pk=turn.pk).update(input_tokens=1000, output_tokens=70, cost_usd="0.25")
    for _ in range(2):
        with transaction.atomic():
            usage.settle(turn)
    turn.refresh_from_db()
    assert (turn.input_tokens, turn.output_tokens, str(turn.cost_usd)) == (1000, 70, "0.250000")


def test_and_what_they_cost_is_looked_up_when_the_agent_does_not_say_it() -> None:
    prices = Prices.of([("claude-parrot", Decimal(3), Decimal("0.3"), Decimal(4), Decimal(15))])
    reader = Reader(7, 1, 0, {}, registry.adapter("claude"), redact.Redactor({}), {1: 11}, prices)
    result = {
        "type": "result",
        "session_id": "s",
        "result": "done",
        "model_usage_since_last_result": {"claude-parrot": {"inputTokens": 1_000_000, "outputTokens": 100_000}},
    }
    records = [{"n": 1, "kind": "turn", "turn": 1}, {"n": 2, "kind": "out", "turn": 1, "step": "agent", "line": json.dumps(result)}]
    batch, _ = reader.take(b"".join(json.dumps({"t": 1.0} | record).encode() + b"\n" for record in records))
    assert (batch.turns[11].tokens[0], batch.turns[11].cost_usd) == (1_000_000, Decimal("4.5"))


# Who may ask


def asks(run: Run, key: str, token: str) -> Grant | Refusal:
    return model_access.open(key, token, "anthropic")


def test_a_token_from_outside_says_who_it_is(make: Callable[..., Run]) -> None:
    run = make("claude")
    token = model_access.token(first(run), run.generation)
    key = model_access.outside(token)
    assert key == f"outside:{first(run).pk}:{run.generation}"
    granted = asks(run, key, token)
    assert isinstance(granted, Grant)
    assert (granted.run_id, granted.key.secret) == (run.pk, SECRET)


@pytest.mark.parametrize(
    "token",
    [
        *("", "act-", "act-1-1-", f"act-1-1-{'0' * 64}", f"act-1-1-{'0' * 63}", f"act--1-1-{'0' * 64}", "act-1-1-" + "g" * 64),
        f"act-{'9' * 40}-1-{'0' * 64}",
    ],
)
def test_what_we_have_not_made_is_known_without_the_database(token: str, django_assert_num_queries: Callable[[int], Any]) -> None:
    with django_assert_num_queries(0):
        assert model_access.outside(token) == ""


def test_each_sandboxs_token_is_good_where_the_sandbox_is_and_nowhere_else(make: Callable[..., Run], make_run: MakeRun) -> None:
    elsewhere = make("claude")
    here = make_run(agent="claude", backend="local", status="running", sandbox=True)
    theirs, ours = (model_access.token(first(run), run.generation) for run in (elsewhere, here))
    socket, others_socket = (model_access.backends.key(run.pk, run.generation) for run in (here, elsewhere))
    assert isinstance(asks(here, socket, ours), Grant)
    assert isinstance(asks(here, model_access.outside(ours), ours), Refusal)
    assert isinstance(asks(elsewhere, socket, theirs), Refusal)
    assert isinstance(asks(elsewhere, others_socket, theirs), Refusal)
    assert isinstance(asks(elsewhere, model_access.outside(ours), theirs), Refusal)
    assert isinstance(asks(elsewhere, "", theirs), Refusal)


def test_it_ends_with_its_turn_and_with_its_generation(make: Callable[..., Run]) -> None:
    run = make("claude")
    turn = first(run)
    token = model_access.token(turn, run.generation)
    Run.objects.filter(pk=run.pk).update(generation=run.generation + 1)
    assert isinstance(asks(run, model_access.outside(token), token), Refusal)
    Run.objects.filter(pk=run.pk).update(generation=run.generation)
    Turn.objects.filter(pk=turn.pk).update(status="succeeded")
    refused = asks(run, model_access.outside(token), token)
    assert isinstance(refused, Refusal)
    assert refused.sentence == "asynccode: This turn is over."
