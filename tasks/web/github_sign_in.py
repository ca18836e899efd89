"""The way to GitHub and back, by django-allauth: signing in, and connecting an account (again, with more scopes).

allauth makes and checks the state and PKCE, and gets the token and the profile; what becomes of them is ours (tasks/github/people.py).
"""

from __future__ import annotations

import logging
from typing import Any

import requests
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter, get_adapter
from allauth.socialaccount.models import SocialApp, SocialLogin, SocialToken
from allauth.socialaccount.providers.base.constants import AuthError, AuthProcess
from allauth.socialaccount.providers.github.provider import GitHubProvider
from allauth.socialaccount.providers.github.views import GitHubOAuth2Adapter
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required, login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from tasks import limits
from tasks.errors import AppError
from tasks.github import people
from tasks.github_api import admission, apps, renewal
from tasks.github_api.credentials import Person
from tasks.web import account, errors
from tasks.web.access import Request

logger = logging.getLogger(__name__)

REPOSITORY_SCOPES = ("repo", "workflow")  # without `workflow`, GitHub refuses pushes that touch .github/workflows
PROBLEM_CANCELED = "You did not allow it at GitHub, so nothing has happened."
PROBLEM_STATE = "This sign-in was begun in another browser, too long ago, or is over already. Begin again."
PROBLEM_REFUSED = "GitHub did not let that through. Begin again; if it stays like this, tell an operator of this server."
PROBLEM_SILENT = "GitHub does not answer as it should. Try again in a few minutes."


# --- to GitHub ----------------------------------------------------------------------------------------------------------


@require_POST
@login_not_required
@never_cache
def sign_in(request: HttpRequest) -> HttpResponse:
    """To GitHub, with no more than signing in needs. By POST only, so that no other site signs anybody in here."""
    _check_is_on()
    if wait := limits.GITHUB.take(request.META.get("REMOTE_ADDR", "")):
        return errors.too_many(request, wait)
    return _leave(request, AuthProcess.LOGIN, admission.scopes(), account.wanted(request))


@require_POST
@login_required
@never_cache
def connect(request: Request) -> HttpResponse:
    """To GitHub, for what working with repositories needs."""
    _check_is_on()
    return _leave(request, AuthProcess.CONNECT, (*admission.scopes(), *REPOSITORY_SCOPES), settings_address())


def _check_is_on() -> None:
    if not people.may_sign_in():
        raise Http404


def _leave(request: HttpRequest, process: str, scopes: tuple[str, ...], wanted: str) -> HttpResponse:
    provider = get_adapter().get_provider(request, "github")
    response: HttpResponse = provider.redirect(request, process, next_url=wanted, scope=scopes)
    return response


def settings_address() -> str:
    return f"{reverse('settings')}#github"


# --- and back -----------------------------------------------------------------------------------------------------------


@login_not_required
@require_safe
@never_cache
def callback(request: HttpRequest) -> HttpResponse:
    """Where GitHub sends the browser to, with a code and the state that we gave it."""
    _check_is_on()
    try:
        response: HttpResponse = OAuth2CallbackView.adapter_view(GitHub)(request)
    except (ValueError, KeyError, TypeError, AttributeError):  # allauth takes answers for what they should be
        logger.exception("GitHub's answer to a sign-in makes no sense.")
        return _refused(request, PROBLEM_SILENT, 502)
    return response


class GitHub(GitHubOAuth2Adapter):  # type: ignore[misc]  # allauth is not typed
    """allauth's, with addresses that are read when they are needed, and with what GitHub says of the token."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.access_token_url = f"{settings.GITHUB_URL}/login/oauth/access_token"
        self.authorize_url = f"{settings.GITHUB_URL}/login/oauth/authorize"
        self.profile_url = f"{settings.GITHUB_API_URL}/user"
        self.emails_url = f"{settings.GITHUB_API_URL}/user/emails"
        self.headers = {"Accept": "application/json"}

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        address = reverse("github_callback")
        return settings.PUBLIC_URL + address if settings.PUBLIC_URL else request.build_absolute_uri(address)

    @sensitive_variables()
    def parse_token(self, data: dict[str, Any]) -> SocialToken:
        token = super().parse_token(data)
        token.refresh_expires_at = renewal.ends(data.get("refresh_token_expires_in"))
        token.granted = [scope for scope in str(data.get("scope") or "").replace(" ", ",").split(",") if scope]
        return token

    @sensitive_variables()
    def get_emails(self, headers: dict[str, str]) -> list[Any]:
        """Nobody is kept out because their addresses are not told: nothing is known by them."""
        try:
            found = super().get_emails(headers)
        except requests.RequestException as error:
            logger.info("GitHub does not tell somebody's e-mail addresses (%s).", type(error).__name__)
            return []
        rows = found if isinstance(found, list) else []
        return [one for one in rows if isinstance(one, dict) and {"email", "primary", "verified"} <= one.keys()]


class Provider(GitHubProvider):  # type: ignore[misc]
    oauth2_adapter_class = GitHub


class Adapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """allauth's, up to where it would look for an account by its own rows: there what is ours begins."""

    def get_provider(self, request: HttpRequest, provider: str, client_id: str | None = None) -> Provider:
        if (found := apps.client()) is None:
            raise Http404
        return Provider(request, app=SocialApp(provider="github", client_id=found.id, secret=found.secret))

    def get_requests_session(self) -> requests.Session:
        return admission.as_it_is(super().get_requests_session())

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        raise ImmediateHttpResponse(_came_back(request, sociallogin))

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        raise ImmediateHttpResponse(_not_come_back(request, error, exception, extra_context or {}))


@sensitive_variables("person")
def _came_back(request: HttpRequest, login: SocialLogin) -> HttpResponse:
    person = _person(login, get_adapter().get_provider(request, "github").app.client_id)
    is_connecting = login.state.get("process") == AuthProcess.CONNECT
    try:
        if is_connecting:
            return _connected(request, person)
        user = people.come_in(person)
    except AppError as error:
        return _refused(request, error.message, 503 if isinstance(error, admission.Unclear) else 403, is_connecting=is_connecting)
    return account.signed_in(request, user, account.local(login.state.get("next") or ""))


def _person(login: SocialLogin, client_id: str) -> Person:
    told, token = login.account.extra_data, login.token
    email = next((one.email for one in login.email_addresses if one.primary and one.verified), "")
    return Person(
        github_id=int(login.account.uid),
        login=str(told["login"]),
        name=str(told.get("name") or ""),
        email=email,
        token=token.token,
        scopes=token.granted,
        expires_at=token.expires_at,
        refresh_token=token.token_secret or "",
        refresh_expires_at=token.refresh_expires_at,
        client_id=client_id,
    )


def _connected(request: HttpRequest, person: Person) -> HttpResponse:
    if not request.user.is_authenticated:
        return _refused(request, PROBLEM_STATE, 403)
    people.connect(user=request.user, person=person)
    messages.success(request, f"You are connected to GitHub as {person.login}.")
    return redirect(settings_address())


def _not_come_back(request: HttpRequest, error: Any, exception: Any, context: dict[str, Any]) -> HttpResponse:
    state = context.get("state")
    if state is None:
        return _refused(request, PROBLEM_STATE, 403)
    is_connecting = state.get("process") == AuthProcess.CONNECT
    if error == AuthError.CANCELLED:
        return _refused(request, PROBLEM_CANCELED, 403, is_connecting=is_connecting)
    if isinstance(exception, requests.RequestException):
        logger.warning("GitHub does not answer to a sign-in: %s", type(exception).__name__)
        return _refused(request, PROBLEM_SILENT, 502, is_connecting=is_connecting)
    logger.warning("GitHub refuses a sign-in: %r", request.GET.get("error", type(exception).__name__)[:100])
    return _refused(request, PROBLEM_REFUSED, 403, is_connecting=is_connecting)


def _refused(request: HttpRequest, problem: str, status: int, *, is_connecting: bool = False) -> HttpResponse:
    """Said where it was begun: in the settings, or on the page to sign in."""
    if is_connecting and request.user.is_authenticated:
        messages.error(request, problem)
        return redirect(settings_address())
    return account.ask(request, problem=problem, status=status)
