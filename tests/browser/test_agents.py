"""Several agents with several attempts each, on one page: the real Claude Code, Codex and OpenCode with the scripted model, and bash."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import SLOW_MS
from tests.models.server import ModelServer
from tests.spine.conftest import AGENTS, model, person  # noqa: F401 - fixtures: a product whose agents have a model
from tests.spine.person import Person

pytestmark = pytest.mark.browser
GATE = "the-browser-has-looked"
# Markers for the model; a comment for bash.
PROMPT = f"# [[write hello.txt]] [[say Half of it.]] [[gate {GATE}]] [[say And the rest.]]\necho hello > hello.txt; sleep 600"


@pytest.fixture
def page(browser: Browser, person: Person) -> Iterator[Page]:  # noqa: F811
    with browser.new_context(base_url=person.product.url) as context:
        context.add_cookies([{"name": name, "value": value, "url": person.product.url} for name, value in person.cookies.items()])
        page = context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        yield page
        assert not wrong


def test_four_agents_with_two_attempts_each_are_live_on_one_page(page: Page, person: Person, model: ModelServer) -> None:  # noqa: F811
    runs = person.task(PROMPT, dict.fromkeys([*AGENTS, "shell"], 2))
    assert len(runs) == 8
    page.goto(f"/tasks/{runs[0]['task_id']}/")
    page.evaluate("window.isSamePage = true")
    cards = page.locator(".card")
    expect(cards).to_have_count(8)
    expect(cards.get_by_text("Agent at work")).to_have_count(8, timeout=6 * SLOW_MS)
    expect(page).to_have_title("● 8 running · " + page.title().partition(" · ")[2])

    model.open(GATE)
    for run in runs:
        if run["agent"] == "shell":
            person.stop(run["id"])
    expect(cards.get_by_text("Succeeded")).to_have_count(6, timeout=6 * SLOW_MS)
    expect(cards.get_by_text("Canceled")).to_have_count(2, timeout=SLOW_MS)
    expect(cards.get_by_text("+1")).to_have_count(8, timeout=SLOW_MS)
    for label in ("Claude Code", "Codex", "OpenCode", "Shell"):
        expect(cards.filter(has_text=label)).to_have_count(2)
    assert page.evaluate("window.isSamePage")
