"""The verbs of a user's own account: profile, theme, notifications, password, sessions."""

from __future__ import annotations

import secrets

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.views.decorators.debug import sensitive_variables

from tasks.errors import InvalidInput, NotAllowed
from tasks.models import Notify, Theme, User

MOST_NAME = 100  # characters
MOST_PASSWORD = 1000


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


def end_sessions(*, user: User) -> None:
    """End every session of the user, with their sockets; who asked for it keeps theirs by `update_session_auth_hash`."""
    user.session_salt = secrets.token_hex(16)
    user.save(update_fields=["session_salt"])
