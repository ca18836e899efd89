"""Signing in by a link."""

from __future__ import annotations

import pytest
from django.utils import timezone

from tasks import accounts
from tasks.models import LoginLink, User

pytestmark = pytest.mark.django_db


def test_a_login_link_signs_in_once(alice: User) -> None:
    token = accounts.create_login_link(user=alice).rstrip("/").rsplit("/", 1)[1]
    assert accounts.use_login_link(token) == alice
    assert accounts.use_login_link(token) is None


def test_old_links_unknown_links_and_those_of_deactivated_users_sign_nobody_in(alice: User) -> None:
    token = accounts.create_login_link(user=alice).rstrip("/").rsplit("/", 1)[1]
    LoginLink.objects.update(expires_at=timezone.now())
    assert accounts.use_login_link(token) is None
    assert accounts.use_login_link("nonsense") is None
    other = accounts.create_login_link(user=alice).rstrip("/").rsplit("/", 1)[1]
    User.objects.update(is_active=False)
    assert accounts.use_login_link(other) is None


def test_the_token_itself_is_not_kept(alice: User) -> None:
    token = accounts.create_login_link(user=alice).rstrip("/").rsplit("/", 1)[1]
    assert token not in str(LoginLink.objects.values_list().get())
