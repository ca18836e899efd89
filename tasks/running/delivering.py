"""Sending what `announcing` has written down, and again while it is not taken: rows decide, a job only does what is due.

A webhook is posted to as the Standard Webhooks say (https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp`, and in
`webhook-signature` "v1," and the base64 of the HMAC-SHA256 of "ID.TIMESTAMP.BODY". Its address is judged at each attempt, and the
connection goes to what was judged; no redirect is followed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import smtplib
import time
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from agents.upstream import PORTS, Address, Failed, NotAllowed, Upstream
from sandboxes.addresses import Addresses
from sandboxes.egress import HostError, PolicyError
from tasks.models import OutgoingDelivery, OutgoingState, OutgoingWebhook
from tasks.running import mails

# Before the second attempt, the third, and so on; after the last of these it is given up.
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (10, 60, 5 * 60, 30 * 60, 2 * 3600, 8 * 3600, 24 * 3600))
MOST_S = 10.0  # for one attempt
MOST_KEPT = 100  # messages of a webhook, or of a person's mail
KEPT = timedelta(days=30)
ROUND_S = 30.0
_LEASE = timedelta(minutes=1)  # after which who had it in hand has died
_MOST_ANSWER = 500  # characters
_GONE = 410
PREFIX = "whsec_"  # of secrets


@dataclass(frozen=True)
class Outcome:
    """`status` is None where there was no answer; `said` then says why."""

    is_taken: bool
    status: int | None = None
    said: str = ""


def deliver_due() -> None:
    """One round, those first that wait for longest: the net under the nudge, and what is tried again."""
    end = time.monotonic() + ROUND_S
    for pk in list(OutgoingDelivery.objects.due().order_by("due_at").values_list("pk", flat=True)[:100]):
        if time.monotonic() > end:
            return
        deliver(pk)


def deliver(delivery_id: int) -> None:
    """Try one that is due, alone."""
    with transaction.atomic():
        row = OutgoingDelivery.objects.due().select_for_update(skip_locked=True, of=("self",)).filter(pk=delivery_id).first()
        if row is None:
            return
        row.attempts += 1
        row.due_at = row.tried_at = timezone.now()
        row.due_at += _LEASE
        row.save(update_fields=["attempts", "due_at", "tried_at"])
    outcome = _post(row.webhook, row) if row.webhook else _mail(row)
    state, due_at = OutgoingState.DELIVERED, row.due_at
    if not outcome.is_taken:
        is_last = row.attempts > len(PAUSES) or outcome.status == _GONE
        state = OutgoingState.FAILED if is_last else OutgoingState.DUE
        due_at = timezone.now() if is_last else timezone.now() + PAUSES[row.attempts - 1]
    mine = OutgoingDelivery.objects.filter(pk=row.pk, attempts=row.attempts)
    mine.update(state=state, due_at=due_at, status=outcome.status, answer=outcome.said)
    if outcome.status == _GONE:
        OutgoingWebhook.objects.filter(deliveries=row).update(is_active=False)


def forget_old() -> None:
    """Of each log only the newest are kept, for some time."""
    OutgoingDelivery.objects.filter(created_at__lt=timezone.now() - KEPT).delete()
    for webhook, owner in OutgoingDelivery.objects.order_by().values_list("webhook", "owner").distinct():
        log = OutgoingDelivery.objects.filter(webhook=webhook, owner=owner).exclude(state=OutgoingState.DUE)
        if oldest := log.order_by("-pk").values_list("pk", flat=True)[MOST_KEPT - 1 : MOST_KEPT].first():
            log.filter(pk__lt=oldest).delete()


# --- to a webhook -------------------------------------------------------------------------------------------------------


@sensitive_variables("secret")
def signature(secret: str, key: str, at: int, body: bytes) -> str:
    content = f"{key}.{at}.".encode() + body
    digest = hmac.new(base64.b64decode(secret.removeprefix(PREFIX)), content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _post(webhook: OutgoingWebhook, row: OutgoingDelivery) -> Outcome:
    body, at = json.dumps({"id": row.key, **row.payload}).encode(), int(time.time())
    headers = [
        ("Content-Type", "application/json"),
        ("User-Agent", "asynccode"),
        ("webhook-id", row.key),
        ("webhook-timestamp", str(at)),
        ("webhook-signature", signature(webhook.secret, row.key, at, body)),
    ]
    try:
        status, said = asyncio.run(_ask(webhook.url, headers, body))
    except TimeoutError:
        return Outcome(False, said=f"There was no answer within {MOST_S:.0f} seconds.")
    except Failed as error:
        return Outcome(False, said=str(error))
    said = "".join(character if character.isprintable() or character in "\n\t" else "�" for character in said)
    return Outcome(200 <= status < 300, status, said)


async def _ask(url: str, headers: list[tuple[str, str]], body: bytes) -> tuple[int, str]:
    """Status and beginning of the answer. Failed, TimeoutError."""
    parts = urlsplit(url)
    address = Address(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme], "")
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    upstream = Upstream(_judged)
    try:
        async with asyncio.timeout(MOST_S):
            answer = await upstream.send("POST", address, target, headers, body)
            said = bytearray()
            try:
                async for piece in answer.pieces:
                    said += piece
                    if len(said) > 4 * _MOST_ANSWER:
                        break
            finally:
                await answer.close()
            return answer.status, said.decode(errors="replace")[:_MOST_ANSWER]
    finally:
        await upstream.close()


async def _judged(scheme: str, host: str, port: int) -> list[str]:
    try:
        return await Addresses(settings.ALLOW_PRIVATE_HOSTS)(scheme, host, port)
    except (PolicyError, HostError) as error:
        raise NotAllowed(str(error)) from None


# --- by e-mail ----------------------------------------------------------------------------------------------------------


def _mail(row: OutgoingDelivery) -> Outcome:
    if not row.owner.email or not row.owner.is_active:
        return Outcome(False, said="There is no e-mail address to send it to.")
    subject, text = mails.of(row.payload)
    try:
        EmailMessage(subject, text, to=[row.owner.email], headers={"Message-ID": mails.message_id(row.key)}).send()
    except (smtplib.SMTPException, OSError) as error:
        return Outcome(False, said=f"The mail server did not take it: {error}"[:_MOST_ANSWER])
    return Outcome(True)
