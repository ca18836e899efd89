"""Settings, tokens, sessions and signing in, as somebody with a browser does them."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py
PASSWORD = "correct horse battery"


def make_user(product: Product, name: str) -> None:
    code = "from tasks.models import User; user, _ = User.objects.get_or_create(username={!r}); user.set_password({!r}); user.save()"
    product.shell(code.format(name, PASSWORD))


def sign_in(page: Page, product: Product, name: str, path: str = "/settings/") -> None:
    """By password, from a page that was asked for without a session; ends on it."""
    page.goto(product.url + path)
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(product.url + path)


def test_signing_in_by_link_leads_back_to_the_page_that_was_asked_for(browser: Browser, live_product: Product) -> None:
    with browser.new_context(base_url=live_product.url) as context:
        page = context.new_page()
        page.goto("/settings/")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(live_product.login_link())
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Settings")).to_be_visible()


def test_a_wrong_password_keeps_the_name(browser: Browser, live_product: Product) -> None:
    make_user(live_product, "dora")
    with browser.new_context(base_url=live_product.url) as context:
        page = context.new_page()
        page.goto("/sign-in/?next=/settings/")
        page.get_by_label("Username").fill("dora")
        page.get_by_label("Password").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").first).to_contain_text("do not belong together")
        expect(page.get_by_label("Username")).to_have_value("dora")
        expect(page.get_by_label("Password")).to_be_focused()
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page).to_have_url(live_product.url + "/settings/")


def test_settings_are_saved_in_place(page: Page) -> None:
    page.goto("/settings/")
    page.evaluate("window.isSamePage = true")
    page.get_by_label("Name", exact=True).fill("Ada")
    page.get_by_label("E-mail").fill("ada@x")
    page.get_by_role("button", name="Save profile").click()
    expect(page.locator("#profile .errorlist")).to_contain_text("This is no e-mail address")
    expect(page.get_by_label("Name", exact=True)).to_have_value("Ada")
    page.get_by_label("E-mail").fill("ada@example.org")
    page.get_by_role("button", name="Save profile").click()
    expect(page.get_by_text("Your profile is saved.")).to_be_visible()
    expect(page.locator("#profile .errorlist")).to_have_count(0)
    assert page.evaluate("window.isSamePage")


def test_the_theme_is_what_was_chosen(page: Page) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    page.goto("/settings/")
    page.emulate_media(color_scheme="light")
    light = background()
    page.get_by_label("Dark").check()
    page.get_by_role("button", name="Save appearance").click()
    expect(page.get_by_text("The pages look as you chose.")).to_be_visible()
    assert background() != light
    page.get_by_label("As the system has it").check()
    page.get_by_role("button", name="Save appearance").click()
    expect(page.get_by_label("As the system has it")).to_be_checked()
    expect(page.locator("html[data-theme=system]")).to_be_attached()
    assert background() == light


def status_with(url: str, secret: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"})
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_token_is_made_copied_used_and_revoked(page: Page, live_product: Product) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/settings/")
    page.get_by_label("For what").fill("Nightly")
    page.get_by_label("Expires after").select_option("A year")
    page.get_by_role("button", name="Make token").click()
    secret = page.get_by_label("The token").input_value()
    assert re.fullmatch(r"ac_[\w-]{43}", secret)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert status_with(live_product.url + "/runs/999999/patch", secret) == 404  # let in, and there is no such run
    page.reload()
    assert secret not in page.content()

    page.get_by_role("link", name="Revoke Nightly").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Nightly is revoked.")).to_be_visible()
    expect(page.get_by_role("link", name="Revoke Nightly")).to_have_count(0)
    assert status_with(live_product.url + "/runs/999999/patch", secret) == 401


def test_changing_the_password_and_signing_out_everywhere_else(browser: Browser, live_product: Product) -> None:
    make_user(live_product, "erin")
    with browser.new_context() as here, browser.new_context() as elsewhere:
        page, other = here.new_page(), elsewhere.new_page()
        for each in (page, other):
            sign_in(each, live_product, "erin")
        page.get_by_role("link", name="Sign out everywhere else").click()
        page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
        expect(page.get_by_text("You are signed out everywhere else.")).to_be_visible()
        other.reload()
        expect(other.get_by_role("heading", name="Sign in")).to_be_visible()

        sign_in(other, live_product, "erin")
        page.get_by_label("Password now").fill(PASSWORD)
        page.get_by_label("New password", exact=True).fill("staple battery horse")
        page.get_by_label("New password, once more").fill("staple battery horse")
        page.get_by_role("button", name="Change password").click()
        expect(page.get_by_text("Your password is changed.")).to_be_visible()
        other.reload()
        expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Settings")).to_be_visible()


def test_everything_works_without_scripts(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/settings/")
        page.get_by_label("Name", exact=True).fill("Grace")
        page.get_by_label("E-mail").fill("grace@x")
        page.get_by_role("button", name="Save profile").click()
        expect(page.locator("#profile .errorlist")).to_contain_text("This is no e-mail address")
        expect(page.get_by_label("Name", exact=True)).to_have_value("Grace")
        page.get_by_label("E-mail").fill("")
        page.get_by_role("button", name="Save profile").click()
        expect(page.get_by_text("Your profile is saved.")).to_be_visible()

        page.get_by_label("For what").fill("By hand")
        page.get_by_role("button", name="Make token").click()
        expect(page.get_by_label("The token")).to_have_value(re.compile(r"ac_.{43}"))
        expect(page.get_by_role("button", name="Copy")).to_be_hidden()
        page.get_by_role("link", name="Revoke By hand").click()
        page.get_by_role("button", name="Revoke").click()
        expect(page.get_by_text("By hand is revoked.")).to_be_visible()
