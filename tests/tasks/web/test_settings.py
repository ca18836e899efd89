"""A user's settings: each section saves, refuses, keeps what was typed; tokens are shown once; sessions end."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.test import AsyncClient, Client
from django.utils import timezone
from pytest_django import Settings

from asynccode.asgi import application
from tasks import accounts, tokens
from tasks.models import ApiToken, Run, User
from tasks.web import consumers

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
OLD, NEW = "an old and long password", "a new and long password"


@pytest.fixture(autouse=True)
def _own_counters(settings: Settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def with_password(alice: User, settings: Settings) -> Client:
    """Alice with a password, signed in."""
    settings.PASSWORD_LOGIN = True
    alice.set_password(OLD)
    alice.save()
    client = Client()
    client.force_login(alice)
    return client


def test_the_page_wants_a_session(client: Client) -> None:
    assert client.get("/settings/").headers["Location"] == "/sign-in/?next=/settings/"


def test_every_section_is_there(as_alice: Client) -> None:
    response = as_alice.get("/settings/")
    page = response.content.decode()
    for heading in ("Profile", "Appearance", "Notifications", "API tokens", "Sessions"):
        assert f">{heading}</h2>" in page
    assert "Change password" not in page
    assert 'id="notification-permission" hidden' in page
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("section", ["profile", "theme", "notifications", "tokens"])
def test_the_address_of_a_form_leads_to_the_page(as_alice: Client, section: str) -> None:
    assert as_alice.get(f"/settings/{section}").headers["Location"].startswith("/settings/#")


def test_the_profile_is_saved(as_alice: Client, alice: User) -> None:
    response = as_alice.post("/settings/profile", {"display_name": " Alice  Ada ", "email": "alice@example.org"})
    assert response.headers["Location"] == "/settings/#profile"
    alice.refresh_from_db()
    assert (alice.display_name, alice.email) == ("Alice Ada", "alice@example.org")
    page = as_alice.get("/settings/").content.decode()
    assert "Your profile is saved." in page
    assert 'value="Alice Ada"' in page


def test_a_section_is_saved_in_place(as_alice: Client) -> None:
    response = as_alice.post("/settings/profile", {"display_name": "Ada"}, headers=HTMX)
    part = response.content.decode()
    assert response.status_code == 200
    assert part.strip().startswith('<section id="profile"')
    assert 'hx-swap-oob="true"' in part
    assert "Your profile is saved." in part


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_what_was_typed_stays_beside_its_error(as_alice: Client, alice: User, headers: dict[str, str]) -> None:
    response = as_alice.post("/settings/profile", {"display_name": "Ada", "email": "nobody"}, headers=headers)
    page = response.content.decode()
    assert response.status_code == 422
    assert 'value="nobody"' in page
    assert 'value="Ada"' in page
    assert "This is no e-mail address" in page
    alice.refresh_from_db()
    assert alice.display_name == ""


def test_names_are_text(as_alice: Client) -> None:
    as_alice.post("/settings/profile", {"display_name": "<b>Ada</b>"})
    assert "<b>Ada</b>" not in as_alice.get("/settings/").content.decode()
    assert as_alice.post("/settings/profile", {"display_name": "Ada\u202e"}).status_code == 422


@pytest.mark.parametrize(("section", "name", "value"), [("theme", "theme", "dark"), ("notifications", "notify", "run")])
def test_a_choice_is_saved_and_an_unknown_one_refused(as_alice: Client, alice: User, section: str, name: str, value: str) -> None:
    assert as_alice.post(f"/settings/{section}", {name: value}).status_code == 302
    for unknown in ("", "purple"):
        assert as_alice.post(f"/settings/{section}", {name: unknown}).status_code == 422
    alice.refresh_from_db()
    assert getattr(alice, name) == value
    assert re.search(rf'value="{value}"[^>]* checked', as_alice.get("/settings/").content.decode())


# --- passwords ----------------------------------------------------------------------------------------------------------


def test_there_are_no_passwords_unless_they_are_on(as_alice: Client) -> None:
    assert as_alice.post("/settings/password", {}).status_code == 404


def test_who_has_no_password_is_told_whom_to_ask(as_alice: Client, settings: Settings) -> None:
    settings.PASSWORD_LOGIN = True
    assert "ask an operator" in as_alice.get("/settings/").content.decode()
    assert as_alice.post("/settings/password", {"old_password": "", "new_password": NEW, "again": NEW}).status_code == 422


def test_changing_the_password_ends_the_other_sessions(with_password: Client, alice: User) -> None:
    other = Client()
    other.force_login(alice)
    response = with_password.post("/settings/password", {"old_password": OLD, "new_password": NEW, "again": NEW})
    assert response.headers["Location"] == "/settings/#password"
    assert with_password.get("/settings/").status_code == 200
    assert other.get("/settings/").status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(NEW)


@pytest.mark.parametrize(
    ("old", "new", "again", "said"),
    [
        ("wrong", NEW, NEW, "This is not your password."),
        (OLD, NEW, NEW + "!", "This is not what stands above."),
        (OLD, "short", "short", "at least 12 characters"),
        (OLD, "password1234", "password1234", "too common"),
        (OLD, OLD, OLD, "This is the password that you have."),
        ("", "", "", "Type the password that you have."),
    ],
)
def test_passwords_that_are_refused(with_password: Client, alice: User, old: str, new: str, again: str, said: str) -> None:
    response = with_password.post("/settings/password", {"old_password": old, "new_password": new, "again": again}, headers=HTMX)
    page = response.content.decode()
    assert response.status_code == 422
    assert said in page
    for secret in filter(None, (old, new, again)):
        assert f'value="{secret}"' not in page
    alice.refresh_from_db()
    assert alice.check_password(OLD)


def test_a_stolen_session_cannot_try_passwords_for_ever(with_password: Client) -> None:
    guess = {"old_password": "wrong", "new_password": NEW, "again": NEW}
    assert [with_password.post("/settings/password", guess).status_code for _ in range(11)] == [422] * 10 + [429]


# --- tokens -------------------------------------------------------------------------------------------------------------

SECRET = re.compile(r"ac_[A-Za-z0-9_-]{43}")


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_token_is_shown_once(as_alice: Client, headers: dict[str, str]) -> None:
    form = {"name": "Nightly", "scope": "read", "expires_in_days": "90"}
    response = as_alice.post("/settings/tokens", form, headers=headers)
    secret = SECRET.search(response.content.decode())
    assert secret
    assert tokens.authenticate(secret[0], scope=ApiToken.objects.get().scope) is not None
    assert "no-store" in response.headers["Cache-Control"]
    page = as_alice.get("/settings/").content.decode()
    assert not SECRET.search(page)
    assert "Nightly" in page
    assert secret[0][:8] in page


def test_the_secret_is_not_logged(as_alice: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    response = as_alice.post("/settings/tokens", {"name": "Nightly", "scope": "read", "expires_in_days": ""})
    secret = SECRET.search(response.content.decode())
    assert secret
    assert secret[0] not in caplog.text
    assert ApiToken.objects.get().expires_at is None


@pytest.mark.parametrize("wrong", [{"name": ""}, {"scope": "all"}, {"expires_in_days": "8"}, {"expires_in_days": "x"}])
def test_a_token_form_that_is_wrong_keeps_what_was_typed(as_alice: Client, wrong: dict[str, str]) -> None:
    form = {"name": "Nightly", "scope": "write", "expires_in_days": "7"} | wrong
    response = as_alice.post("/settings/tokens", form)
    page = response.content.decode()
    assert response.status_code == 422
    assert 'class="errorlist"' in page
    assert wrong.get("name") == "" or 'value="Nightly"' in page
    assert not ApiToken.objects.exists()


def test_what_the_list_says_of_a_token(as_alice: Client, alice: User) -> None:
    tokens.create_token(user=alice, name="Old", scope="write", expires_in_days=7)
    page = as_alice.get("/settings/").content.decode()
    assert "never used" in page
    assert "expires <time" in " ".join(page.split())
    ApiToken.objects.update(expires_at=timezone.now(), last_used_at=timezone.now())
    page = as_alice.get("/settings/").content.decode()
    assert "expired <time" in " ".join(page.split())
    assert "never used" not in page


def test_revoking_asks_first(as_alice: Client, alice: User) -> None:
    token, _ = tokens.create_token(user=alice, name="Old", scope="write", expires_in_days=7)
    path = f"/settings/tokens/{token.pk}/revoke"
    assert "Revoke Old?" in as_alice.get(path).content.decode()
    assert ApiToken.objects.valid().exists()
    assert as_alice.post(path).headers["Location"] == "/settings/#token"
    assert not ApiToken.objects.valid().exists()
    assert token.hint not in as_alice.get("/settings/").content.decode()


def test_a_token_of_somebody_else_is_not_there(as_bob: Client, alice: User) -> None:
    token, _ = tokens.create_token(user=alice, name="Hers alone", scope="write", expires_in_days=7)
    for method in (as_bob.get, as_bob.post):
        assert method(f"/settings/tokens/{token.pk}/revoke").status_code == 404
    assert "Hers alone" not in as_bob.get("/settings/").content.decode()
    assert ApiToken.objects.valid().exists()


def test_the_page_costs_as_many_queries_with_many_tokens(
    as_alice: Client, alice: User, django_assert_max_num_queries: Callable[..., object]
) -> None:
    for number in range(20):
        tokens.create_token(user=alice, name=str(number), scope="read", expires_in_days=7)
    with django_assert_max_num_queries(11):  # type: ignore[attr-defined]
        as_alice.get("/settings/")


# --- tokens in use ------------------------------------------------------------------------------------------------------


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_token_downloads_what_its_user_may_see(client: Client, alice: User, bob: User, make_run: Callable[..., Run], scope: str) -> None:
    _, secret = tokens.create_token(user=alice, name="Script", scope=scope, expires_in_days=7)
    own, other = make_run(), make_run(owner=bob)
    response = client.get(f"/runs/{own.pk}/events.jsonl", headers=bearer(secret))
    assert response.status_code == 200
    assert not response.cookies
    assert client.get(f"/runs/{other.pk}/events.jsonl", headers=bearer(secret)).status_code == 404
    assert client.get(f"/runs/{other.pk}/patch", headers=bearer(secret)).status_code == 404
    assert ApiToken.objects.get().last_used_at is not None


def test_a_wrong_token_is_refused_even_with_a_session(as_alice: Client, make_run: Callable[..., Run]) -> None:
    response = as_alice.get(f"/runs/{make_run().pk}/patch", headers=bearer("ac_wrong"))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")
    assert "ac_wrong" not in response.content.decode()


def test_downloads_work_with_a_session_and_lead_to_sign_in_without(as_alice: Client, make_run: Callable[..., Run]) -> None:
    path = f"/runs/{make_run().pk}/events.jsonl"
    assert as_alice.get(path).status_code == 200
    assert Client().get(path).headers["Location"] == f"/sign-in/?next={path}"


def test_a_token_opens_nothing_else(client: Client, alice: User, make_run: Callable[..., Run]) -> None:
    _, secret = tokens.create_token(user=alice, name="Script", scope="write", expires_in_days=7)
    for path in ("/", "/settings/", f"/runs/{make_run().pk}/"):
        assert client.get(path, headers=bearer(secret)).status_code == 302


# --- sessions -----------------------------------------------------------------------------------------------------------


def test_signing_out_everywhere_else(as_alice: Client, alice: User, as_bob: Client) -> None:
    others = [Client(), Client()]
    for other in others:
        other.force_login(alice)
    assert "Sign out everywhere else?" in as_alice.get("/settings/sessions/end").content.decode()
    assert others[0].get("/settings/").status_code == 200
    assert as_alice.post("/settings/sessions/end").headers["Location"] == "/settings/#sessions"
    assert [other.get("/settings/").status_code for other in others] == [302, 302]
    for client in (as_alice, as_bob):
        assert client.get("/settings/").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("closed_connections")
async def test_sockets_of_ended_sessions_end(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "LOOK_S", 0.1)
    client = AsyncClient()
    await client.aforce_login(alice)
    cookie = client.cookies.output(header="", sep=";").strip().encode()
    socket = WebsocketCommunicator(application, "/ws/user/", headers=[(b"origin", b"http://localhost"), (b"cookie", cookie)])
    is_open, _ = await socket.connect(timeout=10)
    assert is_open
    assert (await socket.receive_json_from(timeout=10))["news"]
    await socket.send_json_to({"ack": True})
    await sync_to_async(accounts.end_sessions)(user=alice)
    assert await socket.receive_output(timeout=10) == {"type": "websocket.close", "code": consumers.GONE}
