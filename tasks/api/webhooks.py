"""Webhooks: who is told of one's runs, and what became of each message."""

from __future__ import annotations

from typing import Annotated

from django.shortcuts import get_object_or_404
from ninja import Query, Router

from tasks import outgoing
from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.idempotency import OnceRequest, once
from tasks.api.paging import Cursor, Id, Limit, page
from tasks.models import OutgoingDelivery, OutgoingState, OutgoingWebhook

router = Router(tags=["webhooks"])
DELIVERIES = "/webhooks/{int:webhook_id}/deliveries"


def _webhook(webhook: OutgoingWebhook) -> schemas.Webhook:
    return schemas.Webhook(
        id=webhook.pk, url=webhook.url, events=webhook.events, is_active=webhook.is_active, created_at=webhook.created_at
    )


def _delivery(delivery: OutgoingDelivery, webhook_id: int) -> schemas.Delivery:
    return schemas.Delivery(
        id=delivery.pk,
        webhook=webhook_id,
        key=delivery.key,
        event=delivery.event,
        state=OutgoingState(delivery.state),
        attempts=delivery.attempts,
        due_at=delivery.due_at if delivery.state == OutgoingState.DUE else None,
        tried_at=delivery.tried_at,
        status=delivery.status,
        answer=delivery.answer,
        payload=delivery.payload,
        created_at=delivery.created_at,
    )


def _find(request: Request, pk: int) -> OutgoingWebhook:
    return get_object_or_404(OutgoingWebhook.objects.visible_to(request.user), pk=pk)


@router.get("/webhooks", response=schemas.Webhooks, operation_id="list_webhooks", summary="List webhooks")
def list_webhooks(request: Request, cursor: Cursor = None, limit: Limit = 30) -> schemas.Webhooks:
    """Whom you let be told of your runs, newest first. They are made on the settings page, which shows their secrets once."""
    found, following = page(request, OutgoingWebhook.objects.visible_to(request.user), cursor=cursor, limit=limit)
    return schemas.Webhooks(items=[_webhook(webhook) for webhook in found], next=following)


@router.get("/webhooks/{int:webhook_id}", response=schemas.Webhook, operation_id="get_webhook", summary="Show a webhook")
def get_webhook(request: Request, webhook_id: Id) -> schemas.Webhook:
    """One of them."""
    return _webhook(_find(request, webhook_id))


@router.get(DELIVERIES, response=schemas.Deliveries, operation_id="list_deliveries", summary="List a webhook's messages")
def list_deliveries(
    request: Request, webhook_id: Id, cursor: Cursor = None, limit: Limit = 30, state: Annotated[OutgoingState | None, Query()] = None
) -> schemas.Deliveries:
    """What a webhook was told or is to be told, newest first: the newest 100 of the last 30 days."""
    rows = _find(request, webhook_id).deliveries.all()
    if state:
        rows = rows.filter(state=state)
    found, following = page(request, rows, cursor=cursor, limit=limit)
    return schemas.Deliveries(items=[_delivery(delivery, webhook_id) for delivery in found], next=following)


@router.post(
    f"{DELIVERIES}/{{int:delivery_id}}/redeliver",
    response={202: schemas.Delivery},
    operation_id="redeliver",
    summary="Send a message again",
)
@once(202)
def redeliver(request: OnceRequest, webhook_id: Id, delivery_id: Id) -> schemas.Delivery:
    """Try a message that was given up, or delivered, once more from the start. Its receiver knows it by its `key`."""
    deliveries = _find(request, webhook_id).deliveries
    outgoing.send_again(delivery=get_object_or_404(deliveries, pk=delivery_id), by=request.user)
    return _delivery(deliveries.get(pk=delivery_id), webhook_id)
