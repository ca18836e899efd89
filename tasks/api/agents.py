"""Agents, and who one is."""

from __future__ import annotations

from typing import Literal, cast

from ninja import Router

from tasks.api import schemas
from tasks.api.auth import Request
from tasks.models import Mode
from tasks.running.offers import Offers

router = Router()


@router.get("/me", tags=["account"], response=schemas.Me, operation_id="get_me", summary="Show who one is")
def get_me(request: Request) -> schemas.Me:
    """Whose token this is, and what it may do."""
    return schemas.Me(
        username=request.user.username,
        is_operator=request.user.is_operator,
        token=request.auth.name,
        scope=cast(Literal["read", "write"], request.auth.scope),
        expires_at=request.auth.expires_at,
    )


@router.get("/agents", tags=["agents"], response=schemas.Agents, operation_id="list_agents", summary="List agents")
def list_agents(request: Request) -> schemas.Agents:
    """The agents of this installation with their models, and whether you can use them."""
    offers, items = Offers.to(request.user), []
    for adapter in offers.adapters:
        why_not = offers.missing_key(adapter)
        agent = schemas.Agent(
            name=adapter.name,
            label=adapter.label,
            models=[schemas.Model(name=model.name, label=model.label) for model in offers.models[adapter.name]],
            modes=[Mode(mode) for mode in adapter.modes],
            efforts=list(adapter.efforts),
            can_limit_turns=adapter.can_limit_turns,
            is_usable=not why_not,
            why_not=why_not,
        )
        items.append(agent)
    return schemas.Agents(items=items)
