"""Who asks: a program with a token (tasks/tokens.py). There are no cookies here, so nothing can be forged by another site."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest
from ninja.security import HttpBearer

from tasks import limits, tokens
from tasks.api.errors import Refusal, too_many
from tasks.models import ApiToken, Scope, User

READING = ("GET", "HEAD")
_MISSING = "This needs a token: Authorization: Bearer ac_… Make one on the settings page."
_UNKNOWN = "This token is unknown, expired or revoked. Make another one on the settings page."
_READ_ONLY = "This token may only read. Make one that may write on the settings page."


class Request(HttpRequest):
    """A request of somebody who has a token."""

    user: User
    auth: ApiToken


class Token(HttpBearer):
    """`Authorization: Bearer ac_…`. What only reads takes any token, everything else one that may write."""

    openapi_description = "A token of the settings page. A `read` token may GET, a `write` token may do everything."

    def __call__(self, request: HttpRequest) -> ApiToken:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Refusal(HTTPStatus.UNAUTHORIZED, _MISSING, headers={"WWW-Authenticate": 'Bearer realm="asynccode"'})
        return self.authenticate(request, secret.strip())

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken:
        found = tokens.authenticate(token, scope=Scope.READ)
        if found is None:
            if wait := limits.TOKENS.take(request.META.get("REMOTE_ADDR", "")):
                raise too_many(wait, "Too many requests came with no good token.")
            raise Refusal(HTTPStatus.UNAUTHORIZED, _UNKNOWN, headers={"WWW-Authenticate": _challenge("invalid_token")})
        if request.method not in READING and found.scope != Scope.WRITE:
            challenge = _challenge("insufficient_scope", Scope.WRITE)
            raise Refusal(HTTPStatus.FORBIDDEN, _READ_ONLY, code="insufficient_scope", headers={"WWW-Authenticate": challenge})
        request.user = found.user
        return found


def _challenge(error: str, scope: str = Scope.READ) -> str:
    return f'Bearer realm="asynccode", error="{error}", scope="{scope}"'
