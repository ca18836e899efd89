"""The tokens of test users: JSON Web Tokens that say for whom and until when they are good, signed with a key of this installation.

Each has its row too (tasks/tokens.py): so it can be revoked, and is gone with its user.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from tasks.models import User, allows_test_users

AUDIENCE = "asynccode test user"
ALGORITHM = "HS256"
LONGEST = 1000  # characters
_CLAIMS = ["sub", "exp", "iat", "jti", "aud"]


@dataclass(frozen=True)
class Claims:
    """What a token says whose signature is good."""

    user_id: str
    until: datetime

    def fit(self, user: User) -> bool:
        """Whether this is a token of that user, good for no longer than the user is."""
        return self.user_id == str(user.pk) and user.expires_at is not None and self.until <= user.expires_at


def make(user: User) -> str:
    """A token of a test user, good as long as the user is (to the second below)."""
    if user.expires_at is None:
        raise ValueError(f"{user} is no test user")
    times = {"iat": int(timezone.now().timestamp()), "exp": int(user.expires_at.timestamp())}
    return jwt.encode({"sub": str(user.pk), "aud": AUDIENCE, "jti": secrets.token_hex(16), **times}, _key(), algorithm=ALGORITHM)


@sensitive_variables("text")
def read(text: str) -> Claims | None:
    """What a token says; None where there may be no test users, and for one that is not ours, changed, or expired."""
    if not allows_test_users() or len(text) > LONGEST or not text.isascii():
        return None
    try:
        found = jwt.decode(text, _key(), algorithms=[ALGORITHM], audience=AUDIENCE, options={"require": _CLAIMS, "strict_aud": True})
        return Claims(found["sub"], datetime.fromtimestamp(found["exp"], UTC))
    except (jwt.PyJWTError, OverflowError, ValueError, TypeError):  # times need not be such that there is a date for them
        return None


def _key() -> bytes:
    """Made from SECRET_KEY for this alone: what is signed for anything else is no token, and the other way round."""
    return salted_hmac("tasks.signed_tokens", AUDIENCE, algorithm="sha256").digest()
