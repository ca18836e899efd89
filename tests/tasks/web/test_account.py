"""Signing in, by a link and by a password, and out; and that nothing leads elsewhere."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from io import StringIO
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from tasks import accounts, limits
from tasks.models import LoginLink, Task, User
from tasks.web import urls

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_counters(settings: Settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def link(alice: User) -> str:
    return urlsplit(accounts.create_login_link(user=alice)).path


def test_a_preview_of_the_link_does_not_use_it_up(client: Client, link: str) -> None:
    for _ in range(2):
        response = client.get(link)
        assert response.status_code == 200
        assert "no-store" in response.headers["Cache-Control"]
    assert LoginLink.objects.get().used_at is None
    assert "_auth_user_id" not in client.session


def test_the_button_signs_in_once(client: Client, link: str) -> None:
    assert client.post(link).headers["Location"] == "/"
    assert client.get("/").status_code == 200
    second = Client().post(link)
    assert second.status_code == 410
    assert "does not work any more" in second.content.decode()


def test_the_links_address_is_told_to_nobody(client: Client, link: str) -> None:
    assert client.get(link).headers["Referrer-Policy"] == "strict-origin"


def test_signing_in_needs_our_own_page(link: str) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(link).status_code == 403
    assert LoginLink.objects.get().used_at is None


def test_the_session_gets_a_new_key(client: Client, link: str) -> None:
    client.session["before"] = 1
    client.session.save()
    before = client.session.session_key
    client.post(link)
    assert client.session.session_key != before


@pytest.mark.parametrize("state", ["expired", "inactive", "unknown"])
def test_links_that_are_no_good(client: Client, alice: User, link: str, state: str) -> None:
    if state == "expired":
        LoginLink.objects.update(expires_at=timezone.now())
    if state == "inactive":
        User.objects.update(is_active=False)
    assert client.post("/sign-in/link/unknown/" if state == "unknown" else link).status_code == 410
    assert "_auth_user_id" not in client.session


def test_signing_out_takes_post(as_alice: Client) -> None:
    assert as_alice.get("/sign-out").status_code == 405
    assert as_alice.post("/sign-out").status_code == 302
    assert as_alice.get("/").status_code == 302


def test_the_sign_in_page_says_how(client: Client) -> None:
    assert "login-link" in client.get("/sign-in/").content.decode()


def test_a_part_of_a_page_asked_for_without_a_session_reloads_the_page(client: Client) -> None:
    response = client.get("/", headers={"HX-Request": "true"}, follow=True)
    assert response.headers["HX-Refresh"] == "true"


def test_what_is_not_there_has_a_page(as_alice: Client) -> None:
    response = as_alice.get("/tasks/99/")
    assert response.status_code == 404
    assert "Go to your tasks" in response.content.decode()


def test_the_operators_pages_show_rows_and_change_none(as_alice: Client, alice: User, make_task: Callable[..., Task]) -> None:
    User.objects.update(is_superuser=True)
    task = make_task()
    for name in ("user", "repo", "task", "run", "turn", "sandbox", "patch", "operation"):
        assert as_alice.get(f"/admin/tasks/{name}/").status_code == 200
    assert as_alice.post(f"/admin/tasks/task/{task.pk}/change/", {"title": "x"}).status_code == 403


# --- the page that was asked for ----------------------------------------------------------------------------------------


def test_signing_in_by_link_leads_to_the_page_that_was_asked_for(client: Client, link: str) -> None:
    client.get("/settings/?a=1&b=2", follow=True)
    response = client.post(link)
    assert response.headers["Location"] == "/settings/?a=1&b=2"
    assert client.cookies["next"].value == ""
    assert client.cookies["next"]["path"] == "/sign-in/"


def test_a_later_visit_to_the_sign_in_page_forgets_it(client: Client, link: str) -> None:
    client.get("/settings/", follow=True)
    client.get("/sign-in/")
    assert client.post(link).headers["Location"] == "/"


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "javascript:alert(1)",
    "evil",
    "/\x1f/evil.example",
    "/sign-in/",
    "/sign-out",
    "/" + "x" * 3000,
    "",
]


@pytest.mark.parametrize("wanted", ELSEWHERE)
def test_no_sign_in_leads_elsewhere(client: Client, as_alice: Client, link: str, wanted: str) -> None:
    client.get("/sign-in/", {"next": wanted})
    client.cookies["next"] = wanted
    assert client.post(link).headers["Location"] == "/"
    assert as_alice.get("/sign-in/", {"next": wanted}).headers["Location"] == "/"


def test_pages_with_names_of_any_script_are_found_again(client: Client, link: str) -> None:
    client.get("/sign-in/", {"next": '/repos/?q=日本;"x"'})
    assert client.post(link).headers["Location"] == "/repos/?q=%E6%97%A5%E6%9C%AC;%22x%22"


# --- passwords ----------------------------------------------------------------------------------------------------------

PASSWORD = "correct horse battery"


@pytest.fixture
def password(alice: User, settings: Settings) -> str:
    settings.PASSWORD_LOGIN = True
    alice.set_password(PASSWORD)
    alice.save()
    return PASSWORD


def test_passwords_are_off_at_first(client: Client) -> None:
    assert "password" not in client.get("/sign-in/").content.decode().lower()
    assert client.post("/sign-in/", {"username": "alice", "password": PASSWORD}).status_code == 405


def test_signing_in_by_password(client: Client, password: str) -> None:
    assert 'autocomplete="current-password"' in client.get("/sign-in/").content.decode()
    response = client.post("/sign-in/", {"username": "alice", "password": password, "next": "/settings/"})
    assert response.headers["Location"] == "/settings/"
    assert client.get("/settings/").status_code == 200


@pytest.mark.parametrize("wanted", ELSEWHERE)
def test_no_password_leads_elsewhere(client: Client, password: str, wanted: str) -> None:
    assert client.post("/sign-in/", {"username": "alice", "password": password, "next": wanted}).headers["Location"] == "/"


@pytest.mark.usefixtures("password", "bob", "charlie")
def test_nobody_learns_which_names_there_are(client: Client) -> None:
    User.objects.filter(username="charlie").update(is_active=False, password=User.objects.get(username="alice").password)
    said = set()
    for name, typed in (("alice", "wrong"), ("bob", "wrong"), ("charlie", PASSWORD), ("nobody", "wrong")):
        response = client.post("/sign-in/", {"username": name, "password": typed})
        page = response.content.decode()
        assert response.status_code == 422
        assert f'value="{name}"' in page
        assert typed not in page
        said.add(re.sub(r'value="[^"]*"|[A-Za-z0-9]{64}', "", page))
    assert len(said) == 1
    assert "do not belong together" in said.pop()


class CountingHasher(MD5PasswordHasher):
    """Django's quickest hasher, which says how often it was asked."""

    asked = 0

    def encode(self, password: str, salt: str) -> str:
        CountingHasher.asked += 1
        return super().encode(password, salt)


@pytest.mark.usefixtures("password", "bob")
def test_a_name_that_nobody_has_takes_as_long(client: Client, settings: Settings) -> None:
    """Neither does one that has no password."""
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]
    for name in ("alice", "bob", "nobody"):
        before = CountingHasher.asked
        client.post("/sign-in/", {"username": name, "password": "wrong"})
        assert CountingHasher.asked == before + 1, name


def test_one_name_is_not_tried_for_ever(client: Client, password: str) -> None:
    for number in range(10):
        response = client.post("/sign-in/", {"username": "alice", "password": "x"}, REMOTE_ADDR=f"10.0.0.{number}")
        assert response.status_code == 422
    response = client.post("/sign-in/", {"username": "ALICE", "password": password}, REMOTE_ADDR="10.0.1.1")
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 300
    assert "Try again in" in response.content.decode()
    assert client.post("/sign-in/", {"username": "bob", "password": "x"}, REMOTE_ADDR="10.0.1.1").status_code == 422


@pytest.mark.usefixtures("password")
def test_one_address_does_not_try_for_ever(client: Client, link: str) -> None:
    for number in range(15):
        assert client.post("/sign-in/", {"username": f"u{number}", "password": "x"}).status_code == 422
        assert client.post("/sign-in/link/unknown/").status_code == 410
    assert client.post("/sign-in/", {"username": "u", "password": "x"}).status_code == 429
    response = client.post(link)
    assert response.status_code == 429
    assert "no-store" in response.headers["Cache-Control"]
    assert client.post(link, REMOTE_ADDR="10.0.0.2").status_code == 302


def test_a_name_with_spaces_around_it_is_no_other_name(client: Client, password: str) -> None:
    for number in range(10):
        name = " " * number + "alice" + "\u2003" * number
        assert client.post("/sign-in/", {"username": name, "password": "x"}, REMOTE_ADDR=f"10.0.0.{number}").status_code == 422
    assert client.post("/sign-in/", {"username": "alice", "password": password}, REMOTE_ADDR="10.0.1.1").status_code == 429


@pytest.fixture
def written() -> Iterator[StringIO]:
    """What the console gets."""
    console = next(handler for handler in logging.getLogger().handlers if handler.get_name() == "console")
    assert isinstance(console, logging.StreamHandler)
    text = StringIO()
    before = console.setStream(text)
    yield text
    console.setStream(before)


def test_a_link_that_was_not_used_up_is_not_in_the_log(link: str, written: StringIO) -> None:
    """Whoever reads the log after a refused form could sign in with it."""
    assert Client(enforce_csrf_checks=True).post(link).status_code == 403
    assert Client().put(link).status_code == 405
    assert "/sign-in/link/…/" in written.getvalue()
    assert link not in written.getvalue()
    assert Client().post(link).status_code == 302


def test_pages_are_kept_by_nobody_but_the_browser(client: Client, link: str) -> None:
    assert client.get("/").headers["Cache-Control"] == "private"
    client.post(link)
    assert client.get("/").headers["Cache-Control"] == "private"
    assert client.get("/nowhere").headers["Cache-Control"] == "private"


def test_signing_in_rightly_is_not_limited(password: str) -> None:
    for _ in range(35):
        client = Client()
        assert client.post("/sign-in/", {"username": "alice", "password": password}).status_code == 302


def test_tries_count_again_in_the_next_stretch(client: Client) -> None:
    limit = limits.Limit("test", most=2, seconds=1)
    assert [bool(limit.take("a")) for _ in range(4)][2:] == [True, True]
    assert limit.take("b") == 0
    deadline = time.monotonic() + 5
    while limit.take("a") and time.monotonic() < deadline:
        pass
    assert time.monotonic() < deadline


# --- the administration, and what browsers ask for ----------------------------------------------------------------------


@pytest.mark.usefixtures("password")
def test_the_administration_has_no_sign_in_page_of_its_own(client: Client, as_bob: Client) -> None:
    response = client.get("/admin/", follow=True)
    assert response.redirect_chain[-1][0] == "/sign-in/?next=/admin/"
    assert client.get("/admin/login/?next=/admin/tasks/").headers["Location"] == "/sign-in/?next=/admin/tasks/"
    assert client.post("/admin/login/", {"username": "alice", "password": PASSWORD}).status_code == 405
    response = as_bob.get("/admin/", follow=True)
    assert response.status_code == 403
    assert "Not allowed" in response.content.decode()


def test_the_icon_is_where_browsers_look(client: Client) -> None:
    response = client.get("/favicon.ico")
    assert response.status_code == 302
    assert response.headers["Location"].endswith("icon.svg")


def test_nothing_is_shown_to_strangers(client: Client) -> None:
    """Every address of ours wants a session, but for those with which one signs in."""
    free = {
        "sign-in",
        "login-link",
        "sign-out",
        "run-patch",
        "run-raw-events",
        "run-conversation",
        "run-transcript",
        "github-webhook",
        "github_login",
        "github_callback",
        "healthz",
        "readyz",
        "metrics",
        None,
    }
    for pattern in urls.urlpatterns:
        wants_session = getattr(pattern.callback, "login_required", True)
        assert wants_session or pattern.name in free, pattern
