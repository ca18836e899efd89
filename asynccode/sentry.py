"""Reports of errors to Sentry, for those who set SENTRY_DSN: where it happened and about which run, but nothing of what is in
requests, variables, statements or arguments: prompts, code and secrets may be there."""

from __future__ import annotations

from typing import Any, cast

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.types import Event, Hint

from tasks.running import log_context


def start(dsn: str, host: str) -> None:
    sentry_sdk.init(
        dsn=dsn,
        server_name=host,
        default_integrations=False,  # one of them sends the command's arguments
        auto_enabling_integrations=False,
        integrations=[
            DjangoIntegration(),
            LoggingIntegration(level=None),
            ExcepthookIntegration(),
            ThreadingIntegration(),
            DedupeIntegration(),
            AtexitIntegration(callback=lambda pending, timeout: None),
        ],
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        before_send=without_contents,
    )


def without_contents(event: Event, hint: Hint) -> Event:
    """Of a request only its route stays (`transaction`); the ids of what the work was about are added as tags."""
    told = cast("dict[str, Any]", event)
    told.pop("request", None)
    told.pop("user", None)
    told["tags"] = dict(told.get("tags") or {}) | {key: str(value) for key, value in log_context.current().items()}
    return event
