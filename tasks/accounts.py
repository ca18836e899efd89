"""The verbs of a user's own account: signing in by link, profile, theme, notifications, password, sessions."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from tasks import audit
from tasks.errors import InvalidInput, NotAllowed
from tasks.models import AuditKind, DiffForm, DiffWhitespace, LoginLink, Notify, Theme, User

MOST_NAME = 100  # characters
MOST_PASSWORD = 1000
LOGIN_LINK_TTL = timedelta(hours=24)


def create_login_link(*, user: User) -> str:
    """An absolute URL that signs `user` in, once, within a day; a test user while there is one."""
    token = secrets.token_urlsafe(32)
    until = timezone.now() + LOGIN_LINK_TTL
    LoginLink.objects.create(user=user, digest=_digest(token), expires_at=min(until, user.expires_at or until))
    audit.record(AuditKind.LOGIN_LINK_MADE, by=None, subject=user, username=user.username)
    return settings.BASE_URL + reverse("login-link", args=[token])


def use_login_link(token: str) -> User | None:
    """The user whom this link signs in; None when it is unknown, used or too old. Of two at the same time one wins."""
    link = LoginLink.objects.filter(digest=_digest(token)).select_related("user").first()
    if link is None or not link.user.is_welcome:
        return None
    used = LoginLink.objects.filter(pk=link.pk, used_at=None, expires_at__gt=Now()).update(used_at=Now())
    return link.user if used else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def update_profile(*, user: User, display_name: str, email: str) -> None:
    """How the user is called on pages ("" for the username), and where mail may reach them ("" for nowhere)."""
    display_name, email = " ".join(display_name.split()), email.strip()
    if len(display_name) > MOST_NAME or not display_name.isprintable():
        raise InvalidInput(f"A name has at most {MOST_NAME} characters, all of them visible.", field="display_name")
    try:
        if email:
            validate_email(email)
    except ValidationError:
        raise InvalidInput("This is no e-mail address: somebody@example.org.", field="email") from None
    user.display_name, user.email = display_name, email
    user.save(update_fields=["display_name", "email"])


def set_theme(*, user: User, theme: str) -> None:
    if theme not in Theme.values:
        raise InvalidInput(f"Choose one of: {', '.join(Theme.values)}.", field="theme")
    user.theme = theme
    user.save(update_fields=["theme"])


def set_diff(*, user: User, form: str, whitespace: str) -> None:
    """How differences are shown."""
    if form not in DiffForm.values:
        raise InvalidInput(f"Choose one of: {', '.join(DiffForm.values)}.", field="form")
    if whitespace not in DiffWhitespace.values:
        raise InvalidInput("Choose what of whitespace is hidden: amount or all, or nothing.", field="whitespace")
    user.diff_form, user.diff_whitespace = form, whitespace
    user.save(update_fields=["diff_form", "diff_whitespace"])


def set_notify(*, user: User, notify: str) -> None:
    if notify not in Notify.values:
        raise InvalidInput(f"Choose one of: {', '.join(Notify.values)}.", field="notify")
    user.notify = notify
    user.save(update_fields=["notify"])


@sensitive_variables()
def change_password(*, user: User, old: str, new: str) -> None:
    """Set another password. Every session of the user ends; who changed it keeps theirs by `update_session_auth_hash`."""
    if not user.has_usable_password():
        raise NotAllowed("This account signs in by link. An operator can give it a password.")
    if not user.check_password(old):
        raise InvalidInput("This is not your password.", field="old_password")
    if len(new) > MOST_PASSWORD:
        raise InvalidInput(f"A password has at most {MOST_PASSWORD:,} characters.", field="new_password")
    if old == new:
        raise InvalidInput("This is the password that you have.", field="new_password")
    try:
        validate_password(new, user)
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages), field="new_password") from None
    user.set_password(new)
    user.save(update_fields=["password"])
    audit.record(AuditKind.PASSWORD_CHANGED, by=user, subject=user)


def end_sessions(*, user: User) -> None:
    """End every session of the user, with their sockets; who asked for it keeps theirs by `update_session_auth_hash`."""
    user.session_salt = secrets.token_hex(16)
    user.save(update_fields=["session_salt"])
    audit.record(AuditKind.SESSIONS_ENDED, by=None, subject=user, username=user.username)
