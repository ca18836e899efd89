"""Signing in by a link, out, and the pages for what is not there."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.utils import timezone

from tasks import services
from tasks.models import LoginLink, Task, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def link(alice: User) -> str:
    return urlsplit(services.create_login_link(user=alice)).path


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
