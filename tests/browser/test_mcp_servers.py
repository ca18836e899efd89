"""The servers of the Model Context Protocol of a repository in the browser: in place, and without scripts."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import Product

pytestmark = pytest.mark.browser
MAKE = """
from tasks.models import Repo, User
owner = User.objects.filter(is_staff=True).first()
print(Repo.objects.create(owner=owner, source="https://example.org/{0}", name="{0}").pk)
"""


def test_in_place(page: Page, live_product: Product) -> None:
    page.goto(f"/repos/{live_product.shell(MAKE.format('with-servers')).strip()}/")
    page.evaluate("window.isSamePage = true")
    hosts = page.get_by_label("Hosts besides these")
    hosts.fill("typed.example")  # and not saved
    section = page.get_by_role("region", name="Tools from MCP servers")
    section.get_by_text("Add a server").click()
    form = section.get_by_role("form", name="Add a server")
    form.get_by_label("Name").fill("docs")
    expect(form.get_by_label("Command", exact=True)).to_be_hidden()
    form.get_by_label("URL", exact=True).fill("http://docs.example")
    form.get_by_role("button", name="Add").click()
    expect(form).to_contain_text("The URL begins with https://")
    form.get_by_label("URL", exact=True).fill("https://docs.example/mcp")
    form.get_by_role("button", name="Add").click()
    expect(section.get_by_role("link", name="Change docs")).to_be_visible()
    expect(section).to_contain_text("docs.example is not on this repository's network")

    section.get_by_role("button", name="Allow docs.example").click()
    expect(section.get_by_role("button", name="Allow docs.example")).to_have_count(0)
    expect(hosts).to_have_value("typed.example\ndocs.example")  # so that saving the form does not take it away again

    section.get_by_role("link", name="Change docs").click()
    form = section.get_by_role("form", name="Change docs")
    expect(form.get_by_label("URL", exact=True)).to_be_focused()
    form.get_by_label("A command in the sandbox").check()
    form.get_by_label("Command", exact=True).fill("serve 'two words'")
    form.get_by_role("button", name="Save").click()
    expect(section.locator(".row")).to_contain_text("serve 'two words'")

    section.get_by_role("link", name="Remove docs").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(section).to_contain_text("No servers.")
    assert page.evaluate("window.isSamePage")


def test_without_scripts(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"/repos/{live_product.shell(MAKE.format('servers-without-scripts')).strip()}/")
        section = page.get_by_role("region", name="Tools from MCP servers")
        section.get_by_text("Add a server").click()
        form = section.get_by_role("form", name="Add a server")
        form.get_by_label("Name").fill("docs")
        form.get_by_label("URL", exact=True).fill("https://docs.example/mcp")
        form.get_by_role("button", name="Add").click()
        section.get_by_role("button", name="Allow docs.example").click()
        expect(page.get_by_label("Hosts besides these")).to_have_value("docs.example")
        section.get_by_role("link", name="Change docs").click()
        section.get_by_role("form", name="Change docs").get_by_label("URL", exact=True).fill("https://docs.example/v2")
        section.get_by_role("button", name="Save").click()
        expect(section).to_contain_text("https://docs.example/v2")
        section.get_by_role("link", name="Remove docs").click()
        page.get_by_role("button", name="Remove").click()
        expect(section).to_contain_text("No servers.")
