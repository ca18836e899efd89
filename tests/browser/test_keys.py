"""Keys in the settings, as somebody with a browser keeps them: with scripts and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
SECRET = "sk-0123456789abcdefwxyz"
NOWHERE = "https://nowhere.invalid"  # no name server knows it, so nothing is found out about a key


@pytest.fixture(autouse=True)
def _no_keys(live_product: Product) -> Iterator[None]:
    yield
    live_product.shell("from tasks.models import Budget, Credential; Credential.objects.all().delete(); Budget.objects.all().delete()")


def fill(page: Page, secret: str = SECRET, address: str = NOWHERE) -> Any:
    """The form of OpenAI's key, opened and filled."""
    row = page.locator("#openai-own")
    row.locator("summary").first.click()
    row.get_by_label("Key", exact=True).fill(secret)
    if not row.get_by_label("Address of the API").is_visible():
        row.get_by_text("More", exact=True).click()
    row.get_by_label("Address of the API").fill(address)
    return row


def test_a_key_is_kept_checked_again_and_removed_in_place(page: Page) -> None:
    page.goto("/settings/")
    page.evaluate("window.isSamePage = true")
    expect(page.locator("#openai-own")).to_contain_text("No key yet")
    fill(page).get_by_role("button", name="Check and save").click()
    row = page.locator("#openai-own")
    expect(row).to_contain_text("nowhere.invalid cannot be reached")
    expect(row).to_contain_text("…wxyz")
    expect(page.get_by_text("Your key of OpenAI is saved.")).to_be_visible()
    row.get_by_role("button", name="Check the key of OpenAI again").click()
    expect(page.get_by_text("Your key of OpenAI was asked about again.")).to_be_visible()
    assert SECRET not in page.content()
    row.get_by_role("link", name="Remove the key of OpenAI").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Remove your key of OpenAI?")
    dialog.get_by_role("button", name="Remove").click()
    expect(page.locator("#openai-own")).to_contain_text("No key yet")


def test_what_is_wrong_stands_beside_its_field(page: Page) -> None:
    page.goto("/settings/")
    fill(page, address="http://127.0.0.1/v1").get_by_role("button", name="Check and save").click()
    row = page.locator("#openai-own")
    expect(row.locator(".errorlist")).to_contain_text("private or reserved address")
    expect(row.get_by_label("Address of the API")).to_have_value("http://127.0.0.1/v1")
    expect(row.get_by_label("Key", exact=True)).to_have_value("")
    expect(row).to_contain_text("paste it once more")


def test_the_kind_of_anthropics_key_is_chosen(page: Page) -> None:
    page.goto("/settings/")
    row = page.locator("#anthropic-own")
    row.locator("summary").first.click()
    row.get_by_label("Key or token").fill("sk-ant-oat01-0123456789")
    row.get_by_role("button", name="Check and save").click()
    expect(row.locator(".errorlist")).to_contain_text("Choose that kind")
    row.get_by_label("Claude subscription token").check()
    expect(row.get_by_label("Claude subscription token")).to_be_checked()


def test_it_all_works_without_scripts(browser: Browser, signed_in: dict[str, object], live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto("/settings/")
        fill(page).get_by_role("button", name="Check and save").click()
        expect(page).to_have_url(live_product.url + "/settings/#keys")
        expect(page.locator("#openai-own")).to_contain_text("nowhere.invalid cannot be reached")
        page.get_by_role("link", name="Remove the key of OpenAI").click()
        page.get_by_role("button", name="Remove").click()
        expect(page.locator("#openai-own")).to_contain_text("No key yet")


def test_a_budget_shows_what_is_spent(page: Page, live_product: Product) -> None:
    live_product.shell("from tasks.models import Budget; Budget.objects.create(scope='user', usd=20)")
    page.goto("/settings/")
    expect(page.locator("#spending")).to_contain_text("$0.00 of $20.00")
    expect(page.get_by_role("meter", name="Your budget")).to_be_visible()


def test_operators_add_prices_and_budgets_under_the_policy(page: Page) -> None:
    """The `page` fails on whatever the Content-Security-Policy forbids."""
    for model in ("price", "budget", "credential", "agentsetting", "agentmodel", "modelcall", "preset"):
        assert page.goto(f"/admin/tasks/{model}/").ok  # type: ignore[union-attr]
    for model in ("price", "budget", "credential", "agentsetting", "agentmodel"):
        assert page.goto(f"/admin/tasks/{model}/add/").ok  # type: ignore[union-attr]
    page.goto("/admin/tasks/budget/add/")
    page.get_by_label("Scope").select_option("Each run")
    page.get_by_label("USD").fill("2.50")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("was added successfully")
