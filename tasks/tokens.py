"""API tokens: credentials for programs. One model for all uses; the secret is shown once and only its SHA-256 is kept."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from tasks import audit, signed_tokens
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import ApiToken, AuditKind, Scope, User

PREFIX = "ac_"
MOST_TOKENS = 50  # valid ones of a user
MOST_NAME = 100  # characters
EXPIRY_DAYS = (7, 30, 90, 365)
USED_AGAIN = timedelta(minutes=1)  # a token that is used all the time is written once in this time
_HINT = 8


@sensitive_variables("secret")
def create_token(*, user: User, name: str, scope: str, expires_in_days: int | None) -> tuple[ApiToken, str]:
    """A new token and its secret (`ac_` and 43 url-safe characters), which nobody can ever be told again.

    `expires_in_days` is one of EXPIRY_DAYS, or None for never. The name must not be that of another valid token of the user: so
    a form that is sent twice makes one token.
    """
    name = " ".join(name.split())
    if not name or len(name) > MOST_NAME or not name.isprintable():
        raise InvalidInput(f"Give the token a name of 1 to {MOST_NAME} characters, so that you know it again.", field="name")
    if scope not in Scope.values:
        raise InvalidInput(f"Choose one of: {', '.join(Scope.values)}.", field="scope")
    if expires_in_days is not None and expires_in_days not in EXPIRY_DAYS:
        raise InvalidInput(f"Choose one of: {', '.join(map(str, EXPIRY_DAYS))} days, or never.", field="expires_in_days")
    secret = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        valid = ApiToken.objects.visible_to(user).valid()
        if valid.filter(name=name).exists():
            raise InvalidInput("You have a token of that name. Choose another name, or revoke that one first.", field="name")
        if valid.count() >= MOST_TOKENS:
            raise Conflict(f"You have {MOST_TOKENS} tokens, as many as one may. Revoke one first.")
        expires_at = None if expires_in_days is None else timezone.now() + timedelta(days=expires_in_days)
        hint = secret[:_HINT]
        token = ApiToken.objects.create(user=user, name=name, digest=_digest(secret), hint=hint, scope=scope, expires_at=expires_at)
        audit.record(AuditKind.TOKEN_MADE, by=user, subject=token, name=name, scope=scope, days=expires_in_days)
    return token, secret


def create_signed_token(*, user: User) -> tuple[ApiToken, str]:
    """The token of a test user, which may write and is good as long as they are: a signed JWT (tasks/signed_tokens.py)."""
    secret = signed_tokens.make(user)
    token = ApiToken.objects.create(
        user=user, name="test user", digest=_digest(secret), hint=secret[:_HINT], scope=Scope.WRITE, expires_at=user.expires_at
    )
    return token, secret


def revoke_token(*, token: ApiToken, by: User) -> bool:
    """End a token for good, at once; False when it was revoked already. Operators may end anybody's."""
    if token.user_id != by.pk and not by.is_operator:
        raise NotAllowed("This token belongs to somebody else.")
    with transaction.atomic():
        is_done = ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now()) == 1
        if is_done:
            audit.record(AuditKind.TOKEN_REVOKED, by=by, subject=token, name=token.name)
    return is_done


@sensitive_variables("text")
def authenticate(text: str, *, scope: Scope) -> ApiToken | None:
    """The valid token (with its user) whose secret this is, if it may do what `scope` says; `write` includes `read`.

    It is found by its digest in one look into an index: how long that takes says nothing about any token. One without the PREFIX is a
    test user's, whose signature and claims have to be good besides.
    """
    claims = None if text.startswith(PREFIX) else signed_tokens.read(text)
    if claims is None and not text.startswith(PREFIX):
        return None
    may = [Scope.WRITE] if scope == Scope.WRITE else [Scope.READ, Scope.WRITE]
    token = ApiToken.objects.valid().filter(digest=_digest(text), scope__in=may).select_related("user").first()
    if token is not None and claims is not None and not claims.fit(token.user):
        return None
    if token is not None:
        is_due = Q(last_used_at=None) | Q(last_used_at__lt=Now() - USED_AGAIN)
        ApiToken.objects.filter(is_due, pk=token.pk).update(last_used_at=Now())
    return token


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
