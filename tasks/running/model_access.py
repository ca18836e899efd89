"""Who may ask a model, with whose key, and how much of the budgets is left. The broker (`agents/broker.py`) asks here.

A token is made from the turn's number and SECRET_KEY and stands nowhere: whether it is good is a question of rows, so it
ends with its turn, and a gateway that is started anew knows it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from agents import registry
from agents.adapters.base import ErrorClass, ModelAccess, Provider
from agents.grants import Call, Grant, Key, Refusal
from sandboxes.base import SandboxSpec
from tasks.errors import AppError
from tasks.models import BudgetScope, Credential, CredentialKind, EndReason, ModelCall, Price, Run, RunStatus, Sandbox, Turn, User
from tasks.running import backends, counting, model_ways, nudge
from tasks.running.model_ways import LABELS, Keys, Way
from tasks.running.prices import Prices

__all__ = [
    "Call",
    "Grant",
    "Key",
    "Refusal",
    "Way",
    "access",
    "called",
    "fitted",
    "is_in_environment",
    "is_outside",
    "key_for",
    "last_refusal",
    "notice",
    "open",
    "outside",
    "providers_with_key",
    "record",
    "secrets",
    "token",
    "way",
]

OUTSIDE = "outside"  # begins the keys of those who ask from other machines; no sandbox's own begins so

_TOKEN = re.compile(r"act-([0-9]{1,18})-([0-9]{1,9})-[0-9a-f]{64}")
_SOCKET = re.compile(r"([0-9a-f]+):([0-9]{1,18}):([0-9]{1,9})")


# Keys ------------------------------------------------------------------------------------------------------------


def key_for(user: User, provider: str) -> Key | None:
    """The user's own key, else the site's, else the environment's."""
    rows = Credential.objects.filter(Q(owner=user) | Q(owner=None), provider=provider)
    row = min(rows, key=lambda row: row.owner_id is None, default=None)
    if row is None:
        return _environment(provider)
    is_subscription = row.kind == CredentialKind.SUBSCRIPTION
    return Key(row.provider, row.secret, row.base_url, is_subscription, "you" if row.owner_id else "site")


def providers_with_key(stored: Iterable[str]) -> set[Provider]:
    """Whose models can be asked by agents for which these providers' keys are stored."""
    return {Provider(name) for name in stored} | {provider for provider in Provider if _environment(provider)}


def is_in_environment(provider: str) -> bool:
    """Whether the environment has a key of this provider; it is used where neither user nor site have one."""
    return _environment(provider) is not None


def _environment(provider: str) -> Key | None:
    match provider:
        case Provider.ANTHROPIC if settings.ANTHROPIC_API_KEY:
            return Key(provider, settings.ANTHROPIC_API_KEY, settings.ANTHROPIC_BASE_URL, source="environment")
        case Provider.ANTHROPIC if settings.CLAUDE_CODE_OAUTH_TOKEN:
            return Key(provider, settings.CLAUDE_CODE_OAUTH_TOKEN, settings.ANTHROPIC_BASE_URL, is_subscription=True, source="environment")
        case Provider.OPENAI if settings.OPENAI_API_KEY:
            return Key(provider, settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL, source="environment")
        case Provider.GEMINI if settings.GEMINI_API_KEY:
            return Key(provider, settings.GEMINI_API_KEY, settings.GOOGLE_GEMINI_BASE_URL, source="environment")
    return None


# Ways ------------------------------------------------------------------------------------------------------------


def way(run: Run, sandbox: Sandbox) -> Way | None:
    """How this run's agent reaches its model from there; None for one without a model. AppError when it needs a key and there is
    none, or when there is no way to its model."""
    adapter = registry.adapter(run.agent)
    provider = adapter.provider(run.model)
    if provider is None:
        return None
    key = key_for(run.task.owner, provider)
    if key is None:
        raise AppError(_needs_key(adapter.label, provider))
    found = model_ways.way(key, backend=run.backend, network=run.task.network_policy.mode, adds_headers=sandbox.adds_headers)
    if run.task.is_restricted and found.keys is Keys.ENVIRONMENT:
        raise AppError(
            f"This task is restricted, and the key of {LABELS[provider]} would have to be in its sandbox. Have an operator set "
            "GATEWAY_PUBLIC_URL, or let tasks from GitHub be as others on the repository's page."
        )
    return found


def access(way: Way | None, turn: Turn, generation: int) -> ModelAccess:
    """What the agent's adapter gets; empty for one without a model."""
    if way is None:
        return ModelAccess()
    return ModelAccess(way.provider, way.base_url, way.token or token(turn, generation), way.is_subscription)


def fitted(run: Run, sandbox: Sandbox, spec: SandboxSpec) -> SandboxSpec:
    """What this run's sandbox is made of, with what the way to its model needs."""
    found = way(run, sandbox)
    if found is None or not found.host:
        return spec
    network = replace(spec.network, hosts=(*spec.network.hosts, found.host))
    return replace(spec, network=network, headers=[found.rule] if found.rule else [])


def notice(run: Run, sandbox: Sandbox) -> str:
    """What the log of each turn says of where its key is, in a sentence; "" where that is outside of the sandbox."""
    found = way(run, sandbox)
    return found.notice if found else ""


def secrets(run: Run) -> dict[str, str]:
    """Keys that could stand in what comes from this run's sandbox, by what they are called; none of a local one's.

    They are those of its user and of the site, whichever of them the agent has: one may have replaced another meanwhile.
    """
    if run.backend == "local":
        return {}
    return called(Credential.objects.usable_by(run.task.owner))


def called(rows: Iterable[Credential]) -> dict[str, str]:
    """The keys of these rows and of the environment, by what they are called in what is said of them."""
    found = {f"{'key' if row.owner_id else 'site key'} of {LABELS[row.provider]}": row.secret for row in rows}
    kept = filter(None, map(_environment, Provider))
    return found | {f"key of {LABELS[key.provider]} in the environment": key.secret for key in kept}


# Tokens ----------------------------------------------------------------------------------------------------------


def token(turn: Turn, generation: int) -> str:
    """What an agent shows instead of a key: good for this turn, in this generation of its sandbox, while it is at work."""
    return _token(turn.pk, generation)


def _token(turn_id: int, generation: int) -> str:
    subject = f"{turn_id}-{generation}"
    return f"act-{subject}-{salted_hmac('asynccode.model_access', subject, algorithm='sha256').hexdigest()}"


def _needs_key(label: str, provider: str) -> str:
    return f"{label} needs a key of {LABELS[provider]}. Add one under Settings → Keys."


# Requests --------------------------------------------------------------------------------------------------------


def outside(token: str) -> str:
    """Who asks from outside of this host with this token, as `open` takes it; "" for none of ours. No row is looked at."""
    shown = _TOKEN.fullmatch(token)
    if shown is None or not constant_time_compare(token, _token(int(shown[1]), int(shown[2]))):
        return ""
    return f"{OUTSIDE}:{int(shown[1])}:{int(shown[2])}"


def is_outside(key: str) -> bool:
    """Whether this is what `outside` gave."""
    return key.startswith(f"{OUTSIDE}:")


def run_of(key: str) -> int | None:
    """The run whose local sandbox has this key; None where only the token says which."""
    socket = _SOCKET.fullmatch(key)
    return int(socket[2]) if socket else None


def open(key: str, token: str, provider: str) -> Grant | Refusal:
    """Whether whoever shows this token may ask this provider's API now, and with whose key.

    `key` is that of the local sandbox whose socket was used, or what `outside` gave: no sandbox's token is good at another's.
    """
    turn = _turn_of(key, token)
    if turn is None:
        return _refuse(401, "This token is not one of this sandbox.")
    run = turn.run
    if turn.status != RunStatus.RUNNING or turn.outcome is not None or run.status != RunStatus.RUNNING:
        return _refuse(403, "This turn is over.")
    if run.stop_requested_at is not None:
        return _refuse(403, turn.end_text or "This run is being stopped.")
    adapter = registry.adapter(run.agent)
    if provider != adapter.provider(run.model):
        return _refuse(403, f"The model of this run is not one of {LABELS[provider]}.")
    found = key_for(run.task.owner, provider)
    if found is None:
        return _refuse(401, _needs_key(adapter.label, provider))
    grant = Grant(turn.pk, run.pk, run.task.owner_id, found)
    if used_up := _used_up(grant):
        _end_for_budget(grant, used_up)
        return _refuse(403, f"{used_up} An operator can raise it.")
    return grant


def _turn_of(key: str, token: str) -> Turn | None:
    """The turn that the token names, if it is good and comes from where the turn's own sandbox is."""
    named = outside(token)
    if not named:
        return None
    _, turn_id, generation = named.split(":")
    turns = Turn.objects.select_related("run__task__owner").filter(pk=int(turn_id), run__generation=int(generation))
    if key == named:
        return turns.exclude(run__backend="local").first()
    socket = _SOCKET.fullmatch(key)
    if socket is None or socket[1] != backends.installation() or socket[3] != generation:
        return None
    return turns.filter(run=int(socket[2]), run__backend="local").first()


def _refuse(status: int, sentence: str) -> Refusal:
    return Refusal(status, f"asynccode: {sentence}")


@transaction.atomic
def record(grant: Grant, call: Call) -> None:
    """Store what a request took, and end the turn if a budget is used up by it; all of it or, after an error, nothing."""
    prices = Prices.of(Price.objects.values_list("model", "input_usd", "cached_usd", "cache_write_usd", "output_usd"))
    tokens = {
        "input": call.input_tokens,
        "cached": call.cached_tokens,
        "written": call.cache_write_tokens,
        "output": call.output_tokens,
    }
    cost = prices.cost(call.model, **tokens)
    if not Turn.objects.filter(pk=grant.turn_id).exists():
        return  # the run was deleted meanwhile
    cost = prices.cost(call.asked, **tokens) if cost is None else cost
    ModelCall.objects.create(
        user_id=grant.user_id,
        run_id=grant.run_id,
        turn_id=grant.turn_id,
        provider=grant.key.provider,
        model=(call.model or call.asked)[:120],
        status=call.status,
        refused=call.refused,
        is_whole=call.is_whole,
        input_tokens=call.input_tokens,
        cached_tokens=call.cached_tokens,
        cache_write_tokens=call.cache_write_tokens,
        output_tokens=call.output_tokens,
        reasoning_tokens=call.reasoning_tokens,
        cost_usd=cost,
        seconds=call.seconds,
    )
    transaction.on_commit(partial(_count, grant.key.provider, call.status, tokens, cost))
    if used_up := _used_up(grant):
        _end_for_budget(grant, used_up)


def _count(provider: str, status: int, tokens: dict[str, int], cost: Decimal | None) -> None:
    """For /metrics. The model is left out: it is what an agent says."""
    counting.MODEL_CALLS.add(1, provider, f"{status // 100}xx")
    counting.MODEL_COST.add(float(cost or 0), provider)
    for kind, number in tokens.items():
        counting.MODEL_TOKENS.add(number, provider, kind)


def last_refusal(turn: Turn) -> ErrorClass | None:
    """Why the provider refused the last call of a turn; None if that was answered otherwise, or is not known here."""
    last = ModelCall.objects.filter(turn=turn).first()
    return ErrorClass(last.refused) if last and last.refused else None


# Budgets ---------------------------------------------------------------------------------------------------------

# What counts for a run, and what was spent of it. A sum is made only where there is a budget for it.
_SPENT = """
SELECT b.scope, b.usd, (CASE b.scope
    WHEN 'run' THEN (SELECT sum(cost_usd) FROM tasks_modelcall WHERE run_id = %(run)s)
    WHEN 'user' THEN (SELECT sum(cost_usd) FROM tasks_modelcall WHERE user_id = %(user)s AND at >= %(month)s)
    ELSE (SELECT sum(cost_usd) FROM tasks_modelcall WHERE at >= %(month)s) END)
FROM tasks_budget b
WHERE b.user_id = %(user)s OR (b.user_id IS NULL AND NOT (
    b.scope = 'user' AND EXISTS (SELECT 1 FROM tasks_budget own WHERE own.user_id = %(user)s)))
ORDER BY array_position(ARRAY['run', 'user', 'site'], b.scope::text)
"""
_WHOSE = {
    BudgetScope.RUN: "The budget of this run (${usd}) is used up.",
    BudgetScope.USER: "Your budget of this month (${usd}) is used up.",
    BudgetScope.SITE: "Everybody's budget of this month (${usd}) is used up.",
}


@dataclass(frozen=True)
class Spent:
    """How much of a budget is gone, in USD."""

    scope: BudgetScope
    budget_usd: Decimal
    spent_usd: Decimal

    @property
    def is_used_up(self) -> bool:
        return self.spent_usd >= self.budget_usd

    def __str__(self) -> str:
        return _WHOSE[self.scope].format(usd=f"{self.budget_usd:.2f}")


def spent(user_id: int, run_id: int | None = None) -> Iterator[Spent]:
    """The budgets that count for this user and run, from the narrowest to the widest; one query."""
    month = month_began(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(_SPENT, {"run": run_id, "user": user_id, "month": month})
        rows = cursor.fetchall()
    for scope, budget, total in rows:
        yield Spent(BudgetScope(scope), budget, total or Decimal(0))


def month_began(moment: datetime) -> datetime:
    """When the month of UTC of this moment began."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _used_up(grant: Grant) -> str:
    """The first budget that is used up, as a sentence; "" if there is something left of each."""
    return next((str(budget) for budget in spent(grant.user_id, grant.run_id) if budget.is_used_up), "")


def _end_for_budget(grant: Grant, reason: str) -> None:
    """Have the turn stopped, and say why; nothing if it is being stopped already. Its follower stops the agent."""
    with transaction.atomic():
        run = Run.objects.filter(pk=grant.run_id, status=RunStatus.RUNNING, stop_requested_at=None)
        if not Turn.objects.filter(pk=grant.turn_id, status=RunStatus.RUNNING).exists() or not run.update(stop_requested_at=Now()):
            return
        Turn.objects.filter(pk=grant.turn_id).update(end_reason=EndReason.BUDGET, end_text=reason)
        nudge.tell([nudge.run_group(grant.run_id), nudge.user_group(grant.user_id)])
        newest = Sandbox.objects.filter(run=grant.run_id).order_by("-generation").values_list("host", "generation").first()
        if newest and not newest[0]:
            nudge.enqueue(settings.QUEUE_RUNS, "deliver_stop", grant.run_id, newest[1])
