"""The audit log: verbs write down here what operators do and what matters for who may do what. Names and numbers only, no secrets."""

from __future__ import annotations

import ipaddress
from contextvars import ContextVar

from django.db import models

from tasks.models import AuditEntry, AuditKind, User

Detail = str | int | bool | None | list[str]

_address: ContextVar[str | None] = ContextVar("address", default=None)


def came_from(address: str) -> None:
    """Where the request at hand came from, as the web server says it; "" for none that is an address."""
    try:
        _address.set(str(ipaddress.ip_address(address.partition("%")[0])))  # without its zone, which the database does not take
    except ValueError:
        _address.set(None)


def record(kind: AuditKind, *, by: User | None, subject: models.Model | str = "", **detail: Detail) -> None:
    """Write down that `by` did this to `subject`; in the deed's transaction, so there is no entry of what did not happen.

    Without `by` nobody is known to have done it.
    """
    named = subject if isinstance(subject, str) else f"{subject._meta.model_name}:{subject.pk}"
    AuditEntry.objects.create(
        kind=kind,
        user_id=by.pk if by else None,
        username=by.get_username() if by else "",
        subject=named[:200],
        detail={key: value[:500] if isinstance(value, str) else value for key, value in detail.items() if value not in (None, "", [])},
        address=_address.get(),
    )
