"""The composer with more agents than there are yet, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Browser, Page, expect
from pytest_django import Settings

from tasks.models import Run, Task, User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser, pytest.mark.usefixtures("agents")]


@pytest.fixture
def composer(browser: Browser, live_server: Any, alice: User, make_task: Callable[..., Task]) -> Iterator[Page]:
    """The home page of somebody who used three agents and the mode Ask the last time, on a narrow phone."""
    task = make_task(mode="ask")
    for agent, model, attempt in (("claude", "opus", 1), ("claude", "sonnet", 1), ("claude", "sonnet", 2), ("codex", "high", 1)):
        Run.objects.create(task=task, agent=agent, model=model, attempt=attempt, backend="local", branch="x", status="succeeded")
    client = Client()
    client.force_login(alice)
    with browser.new_context(base_url=live_server.url, viewport={"width": 360, "height": 780}) as context:
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
        page = context.new_page()
        page.goto("/")
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_chips_show_the_last_choice(composer: Page) -> None:
    expect(composer.locator(".crew > li:visible")).to_have_text(
        ["Claude Code opus ×1 runs", "Claude Code sonnet ×2 runs", "Codex high ×1 runs"]
    )
    expect(composer.locator("#run-count")).to_contain_text("4 runs")


def test_modes_that_not_all_chosen_agents_can_are_disabled_and_say_who_cannot(composer: Page) -> None:
    ask, plan, code = (composer.get_by_role("button", name=name, exact=True) for name in ("Ask", "Plan", "Code"))
    expect(plan).to_be_disabled()
    expect(plan).to_have_attribute("title", "Codex cannot do this")
    expect(ask).to_have_class("primary")
    composer.locator("#agent-picker > summary").click()
    composer.get_by_label("Runs of Shell script").fill("1")
    expect(ask).to_be_disabled()
    expect(ask).to_have_attribute("title", "Shell script cannot do this")
    expect(plan).to_have_attribute("title", "Shell script and Codex cannot do this")
    expect(code).to_have_class("primary")
    composer.keyboard.press("Escape")
    composer.get_by_role("button", name="Remove Shell script").click()
    expect(ask).to_have_class("primary")
    expect(composer.get_by_role("button", name="Remove Claude Code opus")).to_be_focused()


def test_too_many_runs_are_said_while_they_are_chosen(composer: Page) -> None:
    composer.locator("#agent-picker > summary").click()
    for name in ("Shell script", "Agent 0", "Agent 1", "Agent 2", "Claude Code opus"):
        composer.get_by_label(f"Runs of {name}").fill("20")
    expect(composer.locator("#run-count")).to_have_text("103 runs; 100 are the most at once")


def test_what_starts_at_once_follows_the_chosen_place(composer: Page, settings: Settings) -> None:
    settings.E2B_API_KEY, settings.SANDBOX_BACKEND, settings.E2B_MAX_SANDBOXES = "e2b_test", "local", 1
    settings.MAX_ACTIVE_RUNS = settings.MAX_ACTIVE_RUNS_PER_USER = 4
    composer.goto("/")
    count = composer.locator("#run-count")
    expect(count).to_have_text("4 runs · all start at once")
    composer.get_by_label("Sandbox").select_option("e2b")
    expect(count).to_have_text("4 runs · 1 starts at once, 3 wait")
