"""Verbs: the webhooks that are told of a user's runs, and of what the user gets an e-mail."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from sandboxes.egress import HostError, PrivateHosts, Target, is_address, is_public, normalize
from tasks import audit
from tasks.errors import Conflict, InvalidInput
from tasks.models import AuditKind, OutgoingDelivery, OutgoingEvent, OutgoingState, OutgoingWebhook, User
from tasks.models.outgoing import ABOUT_RUNS, TEST
from tasks.running import announcing, nudge
from tasks.running.delivering import PREFIX

MOST_WEBHOOKS = 10  # of one person
MOST_URL = 1000
_PORTS = {"https": 443, "http": 80}


@sensitive_variables("secret")
@transaction.atomic
def add(*, by: User, url: str, events: Collection[str]) -> tuple[OutgoingWebhook, str]:
    """A webhook, and the secret that its messages are signed with, which is told this once."""
    url, events = _address(url), _known(events, list(OutgoingEvent.values))
    User.objects.select_for_update().get(pk=by.pk)
    if OutgoingWebhook.objects.filter(owner=by).count() >= MOST_WEBHOOKS:
        raise Conflict(f"There are {MOST_WEBHOOKS} webhooks already. Remove one first.")
    secret = PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    webhook = OutgoingWebhook(owner=by, url=url, events=events)
    webhook.secret = secret
    webhook.save()
    audit.record(AuditKind.WEBHOOK_ADDED, by=by, subject=webhook, host=urlsplit(url).hostname, events=list(events))
    return webhook, secret


def change(*, webhook: OutgoingWebhook, by: User, url: str, events: Collection[str], is_active: bool) -> None:
    """Another address has the same secret: it is one's own too."""
    url, events = _address(url), _known(events, list(OutgoingEvent.values))
    with transaction.atomic():
        if OutgoingWebhook.objects.visible_to(by).filter(pk=webhook.pk).update(url=url, events=events, is_active=is_active):
            host = urlsplit(url).hostname
            audit.record(AuditKind.WEBHOOK_CHANGED, by=by, subject=webhook, host=host, events=list(events), is_active=is_active)


def remove(*, webhook: OutgoingWebhook, by: User) -> None:
    """With its log, and what was to be sent to it."""
    with transaction.atomic():
        if OutgoingWebhook.objects.visible_to(by).filter(pk=webhook.pk).delete()[0]:
            audit.record(AuditKind.WEBHOOK_REMOVED, by=by, subject=f"outgoingwebhook:{webhook.pk}")


@transaction.atomic
def test(*, webhook: OutgoingWebhook, by: User) -> None:
    """Send it a message that says that it is one."""
    said = {"event": TEST, "at": timezone.now().isoformat(), "webhook": webhook.pk}
    announcing.send([OutgoingDelivery(owner=by, webhook=webhook, event=TEST, payload=said)])


@transaction.atomic
def send_again(*, delivery: OutgoingDelivery, by: User) -> None:
    """Try one that was given up, or delivered, once more from the start; its receiver knows it by its id. Operators may send anybody's."""
    ours = OutgoingDelivery.objects.all() if by.is_operator else OutgoingDelivery.objects.visible_to(by)
    over = ours.filter(pk=delivery.pk).exclude(state=OutgoingState.DUE)
    if not over.update(state=OutgoingState.DUE, attempts=0, due_at=Now()):
        raise Conflict("It is under way already.")
    if delivery.owner_id != by.pk:
        audit.record(AuditKind.OPERATED, by=by, subject=delivery, deed="send_again")
    nudge.enqueue(settings.QUEUE_OPERATIONS, "deliver", delivery.pk)


def set_mails(*, user: User, events: Collection[str]) -> None:
    """Of what the user gets an e-mail; of nothing without an address."""
    if events and not user.email:
        raise InvalidInput("Give your e-mail address in the settings, under Profile, first.", field="events")
    user.email_events = [event for event in ABOUT_RUNS if event in _known(events, ABOUT_RUNS, is_optional=True)]
    user.save(update_fields=["email_events"])


def _known(events: Collection[str], known: Collection[str], *, is_optional: bool = False) -> list[str]:
    if not events and not is_optional:
        raise InvalidInput("Choose what it is to be told of.", field="events")
    if unknown := set(events) - set(known):
        raise InvalidInput(f"Nothing is told of {', '.join(sorted(unknown))[:100]}.", field="events")
    return [event for event in known if event in events]


def _address(url: str) -> str:
    """https, and no private address; for hosts in ALLOW_PRIVATE_HOSTS http and private ones too. Names are looked up at every contact."""

    def refuse(sentence: str) -> InvalidInput:
        return InvalidInput(sentence, field="url")

    url = url.strip()
    if not url or len(url) > MOST_URL or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise refuse(f"An address has up to {MOST_URL:,} plain characters, without spaces and backslashes. Copy it again.")
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
        host = normalize(f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "")
    except (ValueError, HostError):
        raise refuse("This is no address. It should look like https://example.org/hooks/asynccode.") from None
    if parts.scheme not in _PORTS or not port:
        raise refuse("This is no https address. It should look like https://example.org/hooks/asynccode.")
    if "@" in parts.netloc or parts.fragment:
        raise refuse("The address has a user name, a password or a fragment (#) in it. Give it without.")
    target = Target(host, port)
    if target not in PrivateHosts(settings.ALLOW_PRIVATE_HOSTS):
        if host == "localhost" or host.endswith(".localhost") or (is_address(host) and not is_public(host)):
            raise refuse(f"{host} is a private or local address. An operator can allow {target} in ALLOW_PRIVATE_HOSTS.")
        if parts.scheme == "http":
            raise refuse("Plain http is not encrypted and not accepted. Use https.")
    return url
