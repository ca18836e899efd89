"""The pages for what goes wrong: what they say, that they come whatever is broken, and that scripts get one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from pytest_django import Settings

from asynccode import urls as product
from tasks.models import User
from tasks.web import errors

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("The secret of the database is 42.")


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


@csrf_exempt
def takes_text(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.POST.get("text", "")[:1])


urlpatterns = [path("broken", broken), path("forbidden", forbidden), path("takes-text", takes_text), *product.urlpatterns]
handler400, handler403, handler404, handler500 = product.handler400, product.handler403, product.handler404, product.handler500


@pytest.fixture(autouse=True)
def _urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def visitor(alice: User) -> Client:
    """Alice's browser, which sees error pages rather than exceptions."""
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    return client


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


# --- what each says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "status", "heading", "step"),
    [
        ("/nowhere", 404, "Not found", "Go to your tasks"),
        ("/tasks/9223372036854775808/", 404, "Not found", "Go to your tasks"),
        (f"/tasks/{'9' * 400}/", 404, "Not found", "Go to your tasks"),
        ("/tasks/-1/", 404, "Not found", "Go to your tasks"),
        ("/repos/1/variables/%00/remove", 400, "could not understand", "Go back, reload the page"),
        ("/repos/?q=%00", 400, "could not understand", "Go back, reload the page"),
        ("/forbidden", 403, "Not allowed", "ask an operator"),
        ("/sign-out", 405, "takes no such request", "Go back"),
        ("/broken", 500, "Something went wrong here", "Try again in a moment"),
    ],
)
def test_each_page_says_what_has_happened_and_what_to_do(visitor: Client, address: str, status: int, heading: str, step: str) -> None:
    response = visitor.get(address)
    assert response.status_code == status
    page = text(response)
    assert f"Error {status}" in page
    assert heading in page
    assert step in page
    assert "css/tokens.css" in page
    assert "The secret" not in page


@pytest.mark.parametrize(
    ("address", "status"), [("/nowhere", 404), ("/forbidden", 403), ("/sign-out", 405), ("/broken", 500), ("/nowhere?q=%00", 400)]
)
def test_a_script_gets_one_sentence(visitor: Client, address: str, status: int) -> None:
    response = visitor.get(address, headers=HTMX)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/plain")
    assert "<" not in text(response)
    assert text(response).endswith(".")


def test_a_wrong_method_names_the_right_ones(visitor: Client) -> None:
    response = visitor.get("/sign-out", headers={"Referer": "http://testserver/repos/?a=1"})
    assert response.headers["Allow"] == "POST"
    assert 'href="/repos/?a=1"' in text(response)


@pytest.mark.parametrize(
    "referer", ["https://evil.example/x", "javascript:alert(1)", "//evil.example", "http://testserver//evil.example", "x"]
)
def test_no_page_leads_elsewhere(visitor: Client, referer: str) -> None:
    page = text(visitor.get("/sign-out", headers={"Referer": referer}))
    assert "evil" not in page
    assert '<a class="button" href="/">' in page


def test_too_much_at_once(visitor: Client) -> None:
    response = visitor.generic("POST", "/takes-text", b"text=" + b"x" * 5 * 1024**2, "application/x-www-form-urlencoded")
    assert response.status_code == 413
    assert "takes 4 MB of text in one go" in text(response)
    assert "what you typed is still there" in text(response)
    fields = "&".join(f"f{number}=1" for number in range(1001)).encode()
    assert visitor.generic("POST", "/takes-text", fields, "application/x-www-form-urlencoded").status_code == 413


def test_a_host_that_is_not_ours(visitor: Client) -> None:
    response = visitor.get("/settings/", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert "evil" not in text(response)


def test_a_form_that_was_made_before_signing_in(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    response = client.post("/settings/profile", {"display_name": "x"}, headers={"Referer": "http://testserver/settings/"})
    assert response.status_code == 403
    assert "This form has expired" in text(response)
    assert 'href="/settings/"' in text(response)
    assert "signed in or out" in text(client.post("/settings/profile", headers=HTMX))


def test_too_often_says_when(rf: RequestFactory, alice: User) -> None:
    request = rf.get("/")
    request.user = alice
    response = errors.too_many(request, 130)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "130")
    assert "Try again in 3 minutes." in text(response)
    assert "Try again in 1 minute." in text(errors.too_many(request, 60))
    assert "Try again in 20 seconds." in text(errors.too_many(request, 20))


def test_errors_are_shown_to_strangers_too(client: Client) -> None:
    response = client.get("/nowhere")
    assert response.status_code == 404
    assert "Go to your tasks" in text(response)


# --- a lost session -----------------------------------------------------------------------------------------------------


def test_a_form_sent_without_a_session_comes_back_to_its_page(client: Client) -> None:
    response = client.post("/tasks/new", {"prompt": "x"}, headers={"Referer": "http://testserver/?repo=1"})
    assert response.headers["Location"] == "/sign-in/?next=/%3Frepo%3D1"
    assert client.post("/tasks/new").headers["Location"] == "/sign-in/?next=/"


def test_a_script_that_sends_without_a_session_is_told(client: Client) -> None:
    response = client.post("/settings/profile", headers=HTMX)
    assert response.status_code == 401
    assert "Copy what you typed" in text(response)


# --- the database is away -----------------------------------------------------------------------------------------------


@pytest.fixture
def no_database(visitor: Client) -> Iterator[Client]:
    """Alice's browser, while PostgreSQL cannot be reached."""
    host = connection.settings_dict["HOST"]
    connection.close()
    connection.settings_dict["HOST"] = "/nowhere"
    yield visitor
    connection.settings_dict["HOST"] = host


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ["/", "/settings/", "/tasks/1/", "/nowhere"])
def test_a_database_that_is_away_has_a_page_that_tries_again(no_database: Client, address: str) -> None:
    response = no_database.get(address)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert "no-store" in response.headers["Cache-Control"]
    page = text(response)
    assert "The database cannot be reached just now" in page
    assert '<noscript> <meta http-equiv="refresh" content="5"> </noscript>' in page
    assert "js/again.js" in page


@pytest.mark.django_db(transaction=True)
def test_what_was_sent_meanwhile_is_not_thrown_away_by_a_reload(no_database: Client) -> None:
    response = no_database.post("/settings/profile", {"display_name": "x"})
    page = text(response)
    assert response.status_code == 503
    assert "was not stored" in page
    assert "refresh" not in page
    assert "again.js" not in page
    assert text(no_database.post("/settings/profile", headers=HTMX)).startswith("The database cannot be reached")


@pytest.mark.django_db(transaction=True)
def test_what_needs_no_database_is_there(no_database: Client) -> None:
    assert Client().get("/sign-in/").status_code == 200
    assert Client().get("/favicon.ico").status_code == 302


@pytest.mark.django_db(transaction=True)
async def test_it_is_said_by_the_asynchronous_handler_too(no_database: Client) -> None:
    client = AsyncClient(raise_request_exception=False)
    client.cookies = no_database.cookies
    response = await client.get("/settings/")
    assert response.status_code == 503
    assert "cannot be reached" in text(response)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_away"),
    [
        (caused(OperationalError(), psycopg.OperationalError("no route")), True),
        (caused(OperationalError(), psycopg.errors.AdminShutdown()), True),
        (caused(OperationalError(), psycopg.errors.CannotConnectNow()), True),
        (caused(OperationalError(), psycopg.errors.TooManyConnections()), True),
        (caused(InterfaceError(), psycopg.InterfaceError("closed")), True),
        (caused(OperationalError(), psycopg.errors.DeadlockDetected()), False),
        (caused(OperationalError(), psycopg.errors.QueryCanceled()), False),
        (caused(OperationalError(), psycopg.errors.DiskFull()), False),
        (RuntimeError(), False),
        (None, False),
    ],
)
def test_only_a_connection_that_failed_is_a_database_away(error: Exception | None, is_away: bool) -> None:
    assert errors.is_database_away(error) is is_away


# --- Redis is away ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_redis(settings: Settings) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": "unix:///nowhere.sock"}}


@pytest.mark.usefixtures("no_redis")
def test_pages_do_without_redis(visitor: Client, caplog: pytest.LogCaptureFixture, make_run: Callable[..., Any]) -> None:
    assert django_settings.SESSION_ENGINE == "django.contrib.sessions.backends.db"
    run = make_run()
    for address in ("/", "/settings/", "/repos/", f"/tasks/{run.task_id}/", f"/runs/{run.pk}/"):
        assert visitor.get(address).status_code == 200
    assert visitor.post("/settings/profile", {"display_name": "Ada"}).status_code == 302
    assert Client().post("/sign-in/link/unknown/").status_code == 410
    assert "not limited now" in caplog.text
