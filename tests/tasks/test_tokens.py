"""API tokens: made once, found by their digest, good for what their scope says, and ended."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tasks import tokens
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import ApiToken, Scope, User

pytestmark = pytest.mark.django_db


def make(user: User, name: str = "Script", scope: str = Scope.READ, days: int | None = 30) -> tuple[ApiToken, str]:
    return tokens.create_token(user=user, name=name, scope=scope, expires_in_days=days)


def test_only_the_digest_of_the_secret_is_kept(alice: User) -> None:
    token, secret = make(alice)
    assert re.fullmatch(r"ac_[A-Za-z0-9_-]{43}", secret)
    stored = ApiToken.objects.values().get()
    assert stored["digest"] == hashlib.sha256(secret.encode()).hexdigest()
    assert stored["hint"] == secret[:8] == token.hint
    assert secret not in str(stored)


def test_it_expires_when_it_was_said(alice: User) -> None:
    token, _ = make(alice, days=7)
    assert token.expires_at is not None
    assert abs(token.expires_at - timezone.now() - timedelta(days=7)) < timedelta(minutes=1)
    assert make(alice, "Other", days=None)[0].expires_at is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"scope": "all"}, "scope"),
        ({"days": 8}, "expires_in_days"),
        ({"days": 0}, "expires_in_days"),
    ],
)
def test_what_no_token_can_have(alice: User, fields: dict[str, str | int], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        make(alice, **fields)  # type: ignore[arg-type]
    assert error.value.field == field
    assert not ApiToken.objects.exists()


def test_a_form_that_is_sent_twice_makes_one_token(alice: User, bob: User) -> None:
    token, _ = make(alice)
    with pytest.raises(InvalidInput, match="of that name"):
        make(alice)
    make(bob)
    tokens.revoke_token(token=token, by=alice)
    make(alice)


def test_at_most_fifty_valid_tokens_a_user(alice: User, bob: User, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokens.MOST_TOKENS == 50
    monkeypatch.setattr(tokens, "MOST_TOKENS", 2)
    make(alice, "0")
    ApiToken.objects.update(expires_at=timezone.now())
    made = [make(alice, str(number))[0] for number in (1, 2)]
    with pytest.raises(Conflict, match="Revoke one"):
        make(alice, "3")
    make(bob)
    tokens.revoke_token(token=made[0], by=alice)
    make(alice, "3")


@pytest.mark.parametrize(
    ("has", "asked", "may"), [("read", "read", True), ("write", "read", True), ("write", "write", True), ("read", "write", False)]
)
def test_write_includes_read(alice: User, has: str, asked: str, may: bool) -> None:
    _, secret = make(alice, scope=has)
    found = tokens.authenticate(secret, scope=Scope(asked))
    assert (found is not None and found.user == alice) is may


@pytest.mark.parametrize("state", ["expired", "revoked", "inactive", "unknown"])
def test_tokens_that_are_no_good(alice: User, state: str) -> None:
    token, secret = make(alice)
    match state:
        case "expired":
            ApiToken.objects.update(expires_at=timezone.now())
        case "revoked":
            assert tokens.revoke_token(token=token, by=alice)
            assert not tokens.revoke_token(token=token, by=alice)
        case "inactive":
            User.objects.update(is_active=False)
        case "unknown":
            secret = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    assert tokens.authenticate(secret, scope=Scope.READ) is None
    assert ApiToken.objects.get().last_used_at is None


@pytest.mark.parametrize("text", ["", "ac_", "\0", "\udcff", "é" * 10, "x" * 100_000])
def test_anything_can_be_asked(db: None, text: str) -> None:
    assert tokens.authenticate(text, scope=Scope.READ) is None


def test_its_use_is_written_once_a_minute(alice: User) -> None:
    token, secret = make(alice)

    def used_after(earlier: timedelta) -> bool:
        before = timezone.now() - earlier
        ApiToken.objects.update(last_used_at=before)
        tokens.authenticate(secret, scope=Scope.READ)
        token.refresh_from_db()
        return token.last_used_at != before

    assert not used_after(timedelta(seconds=30))
    assert used_after(timedelta(seconds=61))


def test_a_token_costs_two_queries(alice: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    _, secret = make(alice)
    with django_assert_num_queries(2):
        found = tokens.authenticate(secret, scope=Scope.READ)
        assert found is not None
        assert found.user.username == "alice"


def test_only_its_user_revokes_a_token(alice: User, bob: User) -> None:
    token, _ = make(alice)
    with pytest.raises(NotAllowed):
        tokens.revoke_token(token=token, by=bob)
    assert ApiToken.objects.valid().exists()
