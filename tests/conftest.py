"""What tests of every room share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings
from playwright.sync_api import Browser, BrowserContext, Page

from bench import chromium

# The application looks at the folder as soon as it is imported, and in a fresh checkout nothing has been collected.
settings.STATIC_ROOT = Path(os.environ["ASYNCCODE_DATA"]) / "static"
settings.STATIC_ROOT.mkdir(exist_ok=True)


@pytest.fixture(autouse=True, scope="session")
def _plain_static_files() -> Iterator[None]:
    """Static files under their own names: nothing has to be collected first."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(STORAGES=settings.STORAGES | {"staticfiles": plain}, WHITENOISE_AUTOREFRESH=True, WHITENOISE_USE_FINDERS=True):
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(services: None) -> None:
    """pytest-django asks for this before it makes the test database; a conftest's fixture is stronger than a plugin's."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. One a module, not one a session: while Playwright runs, no other event loop can in this thread."""
    with pytest.MonkeyPatch.context() as patch, chromium.started() as browser:
        patch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # Playwright's loop is in the thread of the tests
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without cookies."""
    with browser.new_context() as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
