"""Webhook deliveries of GitHub's: checked, kept by their ids, and worked on once, by a job."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from tasks.errors import InvalidInput
from tasks.github import mentions, payloads
from tasks.github.payloads import Fields, Ignored, Unusable
from tasks.github.webhook_events import HANDLERS
from tasks.github_api import apps
from tasks.models import Delivery, DeliveryStatus
from tasks.running import counting, nudge

MOST_BYTES = 25 * 1024 * 1024  # GitHub sends no more
MOST_TRIES = 5
KEPT_FOR = timedelta(days=30)
_LATE = timedelta(seconds=60)
_MOST_AGAIN = 500  # deliveries that are enqueued again at once
_MOST_DELETED = 10_000  # rows that one statement deletes
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_DELIVERY_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_EVENT = re.compile(r"[a-z_]{1,60}")


def is_signed(body: bytes, signature: str) -> bool:
    """Whether `signature` (X-Hub-Signature-256) is that of these very bytes under GITHUB_WEBHOOK_SECRET or the GitHub App's secret."""
    if not _SIGNATURE.fullmatch(signature):
        return False
    expected = [hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in apps.webhook_secrets()]
    return any(hmac.compare_digest(f"sha256={one}", signature) for one in expected)


def receive(*, delivery_id: str, event: str, body: bytes) -> tuple[Delivery, bool]:
    """Keep a delivery whose signature was found good, and let a job work on it; False when it had been received before.

    One that nothing can be done with is kept with its end. InvalidInput when it cannot even be kept.
    """
    if not _DELIVERY_ID.fullmatch(delivery_id):
        raise InvalidInput("X-GitHub-Delivery has to be the id of the delivery.")
    if not _EVENT.fullmatch(event):
        raise InvalidInput("X-GitHub-Event has to be the name of an event.")
    with transaction.atomic():
        delivery, is_new = Delivery.objects.get_or_create(delivery_id=delivery_id, defaults={"event": event} | _read(event, body))
        if is_new and delivery.status == DeliveryStatus.QUEUED:
            nudge.enqueue(settings.QUEUE_RUNS, "github.work_on_delivery", delivery.pk)
    return delivery, is_new


def _read(event: str, body: bytes) -> dict[str, Any]:
    """The columns of a delivery with this body."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):  # of text that is no JSON or no UTF-8; of brackets within brackets
        return _ended(DeliveryStatus.FAILED, "Nothing was done: the payload is no JSON that can be read.")
    if not isinstance(payload, dict):
        return _ended(DeliveryStatus.FAILED, "Nothing was done: the payload is no JSON object.")
    about = {"action": payloads.word(payload, "action", most=60), "repository": payloads.repository(payload)}
    if event not in HANDLERS:
        return about | _ended(DeliveryStatus.IGNORED, "Nothing was done: no use is made of such events.")
    kept = payloads.kept(event, payload)
    # The text itself is not kept: what it asks for is read at GitHub, where nobody but its author can have put it.
    if "@" in (text := payloads.text(event, payload)) and mentions.is_in(text, mentions.name()):
        kept["is_mentioned"] = True
    return about | {"payload": kept}


def _ended(status: DeliveryStatus, outcome: str) -> dict[str, Any]:
    return {"status": status, "outcome": outcome, "finished_at": Now()}


def work_on(delivery_id: int) -> None:
    """Do what a delivery asks for; what it changes and its end are one transaction. One that is over, or that another worker is at,
    is left alone. An error of ours leaves it in the queue, for MOST_TRIES tries in all."""
    queued = Delivery.objects.filter(pk=delivery_id, status=DeliveryStatus.QUEUED)
    tired = _ended(DeliveryStatus.FAILED, f"It was given up after {MOST_TRIES} tries that broke off. The log of the workers says why.")
    if queued.filter(tries__gte=MOST_TRIES).update(**tired) or not queued.update(tries=F("tries") + 1):
        return
    with transaction.atomic():
        delivery = queued.select_for_update(skip_locked=True).first()
        if delivery is not None:
            ended = _work(delivery)
            Delivery.objects.filter(pk=delivery.pk).update(**ended)
            transaction.on_commit(partial(counting.DELIVERIES.add, 1, ended["status"]))


def _work(delivery: Delivery) -> dict[str, Any]:
    handle = HANDLERS.get(delivery.event)
    if handle is None:
        return _ended(DeliveryStatus.IGNORED, "Nothing was done: no use is made of such events.")
    try:
        with transaction.atomic():
            return _ended(DeliveryStatus.DONE, handle(delivery.repository, delivery.action, Fields(delivery.payload)))
    except Ignored as error:
        return _ended(DeliveryStatus.IGNORED, error.message)
    except Unusable as error:
        return _ended(DeliveryStatus.FAILED, error.message)


def enqueue_again() -> None:
    """Deliveries that wait for longer than a minute: their nudge was lost, or a try broke off."""
    late = Delivery.objects.filter(status=DeliveryStatus.QUEUED, received_at__lt=Now() - _LATE).order_by("pk")
    for pk in late.values_list("pk", flat=True)[:_MOST_AGAIN]:
        nudge.enqueue_now(settings.QUEUE_RUNS, "github.work_on_delivery", pk)


def forget_old() -> None:
    """Delete deliveries that are older than KEPT_FOR."""
    old = Delivery.objects.filter(received_at__lt=Now() - KEPT_FOR).values("pk")
    while Delivery.objects.filter(pk__in=old[:_MOST_DELETED]).delete()[0]:
        pass
