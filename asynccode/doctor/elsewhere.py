"""What is not ours: GitHub, E2B, and the way by which sandboxes there come to our gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from asgiref.sync import async_to_sync
from django.conf import settings

from asynccode.doctor.services import clock
from sandboxes.e2b import template
from sandboxes.errors import AccountRefused, SandboxError
from tasks.errors import AppError
from tasks.github_api import admission, apps, installations
from tasks.github_api.connection import Answer, Connection
from tasks.github_api.errors import GitHubError, TokenRefused
from tasks.models import Delivery
from tasks.running import backends, templates
from tasks.running.condition import Finding, said

GATEWAY_S = 5.0


def github() -> Iterator[Finding]:
    """Reachable, with our token, and by its clock; what the settings lack."""
    yield from _half_set()
    try:
        with closing(Connection(settings.GITHUB_TOKEN)) as connection:
            answer = connection.ask("GET", "/rate_limit")
    except TokenRefused:
        yield Finding.problem("github", "GitHub refuses GITHUB_TOKEN: it has expired or was revoked. Make another one, or remove it.")
        return
    except GitHubError as error:
        has_use = bool(settings.GITHUB_TOKEN or settings.GITHUB_CLIENT_ID)
        yield (Finding.problem if has_use else Finding.warning)("github", error.message)
        return
    whose = "GITHUB_TOKEN works" if settings.GITHUB_TOKEN else "GITHUB_TOKEN is not set: people act by accounts of their own"
    yield Finding.ok("github", f"{settings.GITHUB_URL} answers. {whose}{_left(answer)}.")
    yield from _clock(answer.headers)


def _left(answer: Answer) -> str:
    core = answer.value.get("resources", {}).get("core", {}) if isinstance(answer.value, dict) else {}
    return f"; {core['remaining']} of {core['limit']} requests are left" if {"remaining", "limit"} <= core.keys() else ""


def _half_set() -> Iterator[Finding]:
    if bool(settings.GITHUB_CLIENT_ID) != bool(settings.GITHUB_CLIENT_SECRET):
        missing = "GITHUB_CLIENT_SECRET" if settings.GITHUB_CLIENT_ID else "GITHUB_CLIENT_ID"
        yield Finding.problem("github", f"Nobody can sign in with GitHub: {missing} is not set.")


def _clock(headers: Mapping[str, str]) -> Iterator[Finding]:
    try:
        there = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return
    yield clock("GitHub's", (there - datetime.now(UTC)).total_seconds(), slack_s=1.0)


def github_app() -> Iterator[Finding]:
    """What our rows say of GitHub: the app, who may sign in, webhooks."""
    app = apps.current()
    if app is not None:
        try:
            number = len(installations.everywhere(app))
        except AppError as error:
            yield Finding.problem("github app", f"The GitHub App {app.slug} is not let in. {error.message}")
        else:
            yield Finding.ok("github app", f"The GitHub App {app.slug} is let in, and installed at {number} accounts.")
    if apps.has_client():
        if not admission.has_lists():
            yield Finding.warning("github sign-in", "Nobody new can sign in: set GITHUB_ALLOWED_ORGS or GITHUB_ALLOWED_USERS.")
        if not settings.PUBLIC_URL:
            yield Finding.warning("github sign-in", f"PUBLIC_URL is not set, so people are sent back to {settings.BASE_URL}.")
    if not apps.webhook_secrets():
        return
    newest = Delivery.objects.order_by("-received_at").values_list("received_at", flat=True).first()
    if newest is None:
        where = f"{settings.PUBLIC_URL or settings.BASE_URL}/github/webhook"
        yield Finding.warning("webhooks", f"None has come yet. GitHub has to reach {where}; its settings show what it tried.")
    else:
        yield Finding.ok("webhooks", f"The newest came at {newest:%Y-%m-%d %H:%M} UTC.")


def e2b() -> Iterator[Finding]:
    if none := backends.why_none():
        yield Finding.problem("e2b", none)
        return
    if not settings.E2B_API_KEY:
        yield Finding.ok("e2b", "E2B_API_KEY is not set: sandboxes are made on this machine.")
        return
    try:
        running = async_to_sync(backends.backend("e2b").list)()
        yield Finding.ok("e2b", f"E2B lets us in; {len(running)} sandboxes of this installation are there.")
        yield _template()
    except AccountRefused as error:
        yield Finding.problem("e2b", str(error))
    except SandboxError as error:
        yield Finding.problem("e2b", f"{error} Look at E2B_API_KEY, E2B_DOMAIN and this machine's network.")


def _template() -> Finding:
    built = templates.chosen()
    name = settings.E2B_TEMPLATE or (built.what.name if built else "")
    if not name:
        return Finding.warning(
            "e2b template", f"No template of ours is built, so E2B's own are used, without our pins. Run: {templates.BUILD}"
        )
    if not template.is_there(name, templates.account()):
        return Finding.problem("e2b template", f"E2B has no template {name} that is ready. Build it: {templates.BUILD}")
    if not settings.E2B_TEMPLATE and built is not None and not built.is_current:
        return Finding.warning("e2b template", f"The template {name} has older versions of agents. Build a new one: {templates.BUILD}")
    return Finding.ok("e2b template", f"E2B has the template {name}.")


def gateway() -> Iterator[Finding]:
    """Whether the broker can be reached where sandboxes at E2B reach it."""
    if not settings.GATEWAY_PUBLIC_URL:
        return
    try:
        answer = httpx.get(f"{settings.GATEWAY_PUBLIC_URL}/healthz", timeout=GATEWAY_S)
        why = "" if answer.status_code == 200 else f"it answers {answer.status_code}."
    except httpx.HTTPError as error:
        why = said(error)
    if why:
        advice = f"Let your proxy send what comes there to GATEWAY_LISTEN ({settings.GATEWAY_LISTEN})."
        yield Finding.problem("gateway url", f"GATEWAY_PUBLIC_URL does not lead to our gateway: {why} {advice}")
    else:
        yield Finding.ok("gateway url", "GATEWAY_PUBLIC_URL leads to our gateway.")
