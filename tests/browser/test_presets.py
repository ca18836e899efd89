"""Presets of the composer: choices of agents under a name, saved, picked and removed in place, also without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.pages import SLOW_MS, Product, choose_repo
from tests.installed import share

pytestmark = pytest.mark.browser
OPUS = "runs-claude:claude-opus-5-5"
PRESETS = "import json\nfrom tasks.models import Preset\nprint(json.dumps(list(Preset.objects.values('name', 'choices'))))"
TASKS = "from tasks.models import Task\nprint(Task.objects.filter(repo__name='presets-enter').count())"


@pytest.fixture(autouse=True)
def _no_presets(live_product: Product) -> Iterator[None]:
    yield
    live_product.shell("from tasks.models import Credential, Preset\nPreset.objects.all().delete()\nCredential.objects.all().delete()")


def amount(page: Page, field: str) -> Locator:
    return page.locator(f"#agent-picker input[name='{field}']")


def choose(page: Page, **numbers: int) -> None:
    """The numbers of runs, by the names of the agents; of Claude Code it is its first model."""
    page.locator("#agent-picker > summary").click()
    for agent, number in numbers.items():
        amount(page, OPUS if agent == "claude" else f"runs-{agent}").fill(str(number))


def chips(page: Page) -> Locator:
    return page.locator(".crew > :not([hidden])")


def picker(page: Page) -> Locator:
    return page.locator("#preset-picker")


def save(page: Page, name: str) -> None:
    if picker(page).get_attribute("open") is None:
        picker(page).locator("summary").click()
    expect(picker(page)).to_have_attribute("open", "")
    picker(page).get_by_label("Save the chosen agents as").fill(name)
    picker(page).get_by_role("button", name="Save").click()
    expect(picker(page).get_by_role("link", name=name)).to_be_visible()


def presets(product: Product) -> Any:
    return json.loads(product.shell(PRESETS))


def test_a_choice_is_saved_by_name_and_picked_by_a_click(page: Page, live_product: Product) -> None:
    page.goto("/")
    page.evaluate("window.isSamePage = true")
    page.get_by_label("Prompt", exact=True).fill("Do it")
    choose(page, claude=2, shell=1)
    page.locator("#agent-picker [name='effort-claude']").select_option("high")
    page.locator("#agent-picker [name='turns-claude']").fill("7")
    page.locator("#agent-picker > summary").click()
    save(page, "Two and one")
    expect(picker(page).get_by_label("Save the chosen agents as")).to_have_value("")
    [kept] = presets(live_product)
    assert {choice["agent"]: (choice["attempts"], choice["options"]) for choice in kept["choices"]} == {
        "shell": (1, {}),
        "claude": (2, {"effort": "high", "max_turns": 7}),
    }

    page.keyboard.press("Escape")
    choose(page, claude=0, shell=3)
    page.locator("#agent-picker [name='effort-claude']").select_option("")
    page.locator("#agent-picker > summary").click()
    expect(chips(page)).to_have_count(1)
    picker(page).locator("summary").click()
    picker(page).get_by_role("link", name="Two and one").click()
    expect(picker(page)).not_to_have_attribute("open", "")
    expect(chips(page)).to_have_count(2)
    expect(page.locator("#run-count")).to_contain_text("3")
    assert amount(page, OPUS).input_value() == "2"
    assert page.locator("[name='effort-claude']").input_value() == "high"
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("Do it")
    assert page.evaluate("window.isSamePage")


def test_enter_in_the_name_saves_and_starts_nothing(page: Page, live_product: Product) -> None:
    page.goto("/")
    page.get_by_label("Prompt", exact=True).fill("true")
    choose_repo(page, str(live_product.repo("presets-enter")))
    choose(page, shell=2)
    page.locator("#agent-picker > summary").click()
    picker(page).locator("summary").click()
    name = picker(page).get_by_label("Save the chosen agents as")
    name.press("Enter")
    expect(picker(page)).to_contain_text("Give the preset a name")
    name.fill("By Enter")
    name.press("Enter")
    expect(picker(page).get_by_role("link", name="By Enter")).to_be_visible()
    expect(page).to_have_url(live_product.url + "/")
    assert live_product.shell(TASKS).strip() == "0"


def test_a_preset_is_removed_in_place(page: Page, live_product: Product) -> None:
    page.goto("/")
    page.evaluate("window.isSamePage = true")
    page.get_by_label("Prompt", exact=True).fill("Do it")
    choose(page, shell=2)
    page.locator("#agent-picker > summary").click()
    save(page, "First")
    save(page, "Second")
    picker(page).get_by_role("button", name="Remove the preset First").click()
    expect(picker(page).get_by_role("link", name="First")).to_have_count(0)
    expect(picker(page).get_by_role("link", name="Second")).to_be_visible()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("Do it")
    assert page.evaluate("window.isSamePage")
    assert [kept["name"] for kept in presets(live_product)] == ["Second"]


def test_without_scripts(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Prompt", exact=True).fill("Do it")
        choose(page, shell=3)
        page.locator("#agent-picker > summary").click()
        picker(page).locator("summary").click()
        picker(page).get_by_label("Save the chosen agents as").fill("Three")
        picker(page).get_by_role("button", name="Save").click()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("Do it")
        expect(page.get_by_text("“Three” is saved.")).to_be_visible()

        page.goto("/")
        picker(page).locator("summary").click()
        picker(page).get_by_role("link", name="Three").click()
        page.wait_for_url("**/?preset=*")
        assert amount(page, "runs-shell").input_value() == "3"
        page.get_by_label("Prompt", exact=True).fill("Another")
        picker(page).locator("summary").click()
        picker(page).get_by_role("button", name="Remove the preset Three").click()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("Another")
        assert presets(live_product) == []


def test_options_of_a_preset_arrive_in_the_run(page: Page, live_product: Product) -> None:
    data = Path(live_product.env["ASYNCCODE_DATA"])
    if not (data / "agents").exists():
        share(data, "claude")  # so that nothing is downloaded
    live_product.shell(
        "from django.utils import timezone\n"
        "from tasks.models import Credential, Preset, User\n"
        "owner = User.objects.filter(is_staff=True).first()\n"
        "key = Credential(owner=owner, provider='anthropic', base_url='https://nowhere.invalid', checked_at=timezone.now())\n"
        "key.secret = 'sk-0123456789abcdef'\n"
        "key.save()\n"
        "options = {'effort': 'low', 'max_turns': 5}\n"
        "choices = [{'agent': 'claude', 'model': 'claude-opus-5-5', 'attempts': 1, 'options': options}]\n"
        "Preset.objects.create(owner=owner, name='Thrifty', choices=choices)\n"
    )
    page.goto("/")
    page.get_by_label("Prompt", exact=True).fill("Say hello")
    choose_repo(page, str(live_product.repo("presets-options")))
    picker(page).locator("summary").click()
    picker(page).get_by_role("link", name="Thrifty").click()
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    page.wait_for_url("**/tasks/*/", timeout=SLOW_MS)
    told = live_product.shell("import json\nfrom tasks.models import Run\nprint(json.dumps(Run.objects.latest('pk').options))")
    assert json.loads(told) == {"effort": "low", "max_turns": 5}
