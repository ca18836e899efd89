"""Repositories in the browser: added in place, tried where they are written, also without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.pages import SLOW_MS

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py


def open_repo(page: Page, product: Product, name: str) -> None:
    """Add a repository in place; ends on its page."""
    path = str(product.repo(name))
    page.goto("/repos/")
    page.get_by_label("https URL or local path").fill(path)
    page.get_by_role("button", name="Add", exact=True).click()
    row = page.locator(".row").filter(has_text=path)
    expect(row).to_contain_text("Kept up to date", timeout=SLOW_MS)
    row.get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(re.compile(r"/repos/\d+/$"))


def trial(page: Page) -> Locator:
    return page.get_by_label("Trial", exact=True)


def test_a_repository_is_added_in_place_and_what_is_wrong_said_beside_it(page: Page, live_product: Product) -> None:
    page.goto("/repos/")
    page.evaluate("window.isSamePage = true")
    field = page.get_by_label("https URL or local path")
    field.fill("/etc")
    field.press("Enter")
    expect(page.locator("#source-error")).to_have_text(re.compile(r"\w"))
    expect(field).to_have_value("/etc")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill(str(live_product.repo("added")))
    field.press("Enter")
    expect(page.locator(".row").filter(has_text="added")).to_contain_text("Kept up to date", timeout=SLOW_MS)
    expect(field).to_have_value("")
    expect(field).to_be_focused()
    assert page.evaluate("window.isSamePage")


def test_an_environment_is_tried_where_it_is_written(page: Page, live_product: Product) -> None:
    open_repo(page, live_product, "tried")
    page.evaluate("window.isSamePage = true")
    page.get_by_label("Setup script", exact=True).fill("for i in $(seq 200); do echo line-$i-; done; echo '<b>escaped</b>'; sleep 1")
    page.get_by_label("Check command").fill("test -f greeting.txt && echo checked && false")
    page.get_by_role("button", name="Save and try").click()
    output = page.get_by_role("log")
    expect(output).to_contain_text("line-200-", timeout=SLOW_MS)
    expect(output).to_contain_text("<b>escaped</b>")
    state = trial(page)
    expect(state).to_contain_text("Check failed with exit code 1", timeout=SLOW_MS)
    expect(state).to_contain_text("Setup succeeded in")
    expect(state).to_contain_text("It does not work yet")
    expect(output).to_contain_text("checked")
    numbers = [int(number) for number in re.findall(r"line-(\d+)-", output.inner_text())]
    assert numbers == list(range(1, 201))
    assert output.evaluate("element => element.scrollTop") == 0  # its end is in sight

    page.get_by_label("Check command").fill("true")
    page.get_by_role("button", name="Save and try").click()
    expect(state).to_contain_text("It works", timeout=SLOW_MS)
    expect(state.locator("[hx-trigger='every 1s']")).to_have_count(0)  # nobody asks any more
    assert page.evaluate("window.isSamePage")
    page.reload()
    expect(trial(page)).to_contain_text("It works")
    page.goto("/")
    expect(page.get_by_text("Setup of tried")).to_have_count(0)


def test_a_trial_is_stopped_and_its_sandbox_destroyed(page: Page, live_product: Product) -> None:
    open_repo(page, live_product, "stopped")
    page.get_by_label("Setup script", exact=True).fill("echo started; sleep 600")
    page.get_by_role("button", name="Save and try").click()
    expect(page.get_by_role("log")).to_contain_text("started", timeout=SLOW_MS)
    trial(page).get_by_role("button", name="Stop").click()
    expect(trial(page)).to_contain_text("Stopped", timeout=SLOW_MS)
    code = (
        "from tasks.models import Sandbox\n"
        "print(list(Sandbox.objects.filter(run__task__title='Setup of stopped').values_list('status', flat=True)))"
    )
    for _ in range(100):
        if live_product.shell(code).strip() == "['destroyed']":
            break
        page.wait_for_timeout(300)
    else:
        pytest.fail("The trial's sandbox is still there.")


def test_variables_in_place(page: Page, live_product: Product) -> None:
    open_repo(page, live_product, "variables")
    page.evaluate("window.isSamePage = true")
    section = page.get_by_role("region", name="Variables")
    section.get_by_label("Name").fill("TOKEN")
    section.get_by_label("Value").first.fill("hunter2")
    section.locator("form").first.get_by_label("Secret").check()
    section.get_by_role("button", name="Set", exact=True).click()
    expect(section.locator(".row")).to_contain_text("secret, never shown")
    expect(section.get_by_label("Name")).to_be_focused()

    section.get_by_text("Add several").click()
    section.get_by_label("Lines of a .env file").fill("MODE=fast\nbroken")
    section.get_by_role("button", name="Set all").click()
    expect(section).to_contain_text("Line 2: This is no assignment")
    section.get_by_label("Lines of a .env file").fill("MODE=fast\nLEVEL='3'")
    section.get_by_role("button", name="Set all").click()
    expect(section.locator(".row")).to_have_count(3)

    section.get_by_role("link", name="Change MODE").click()
    field = section.get_by_label("Value of MODE")
    expect(field).to_be_focused()
    expect(field).to_have_value("fast")
    field.fill("slow")
    section.get_by_role("button", name="Save").click()
    expect(section.locator(".row").filter(has_text="MODE")).to_contain_text("slow")

    section.get_by_role("link", name="Remove LEVEL").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Remove").click()
    expect(dialog).to_be_hidden()
    expect(section.locator(".row")).to_have_count(2)
    assert page.evaluate("window.isSamePage")
    assert "hunter2" not in page.content()


def test_many_repositories_are_searched_as_one_types(page: Page, live_product: Product) -> None:
    live_product.shell(
        "from tasks.models import Repo, User; owner = User.objects.filter(is_staff=True).first()\n"
        "for n in range(12): Repo.objects.create(owner=owner, source=f'https://example.org/many/{n}', name=f'many-{n}')"
    )
    page.goto("/repos/")
    page.get_by_role("searchbox").press_sequentially("many-7")
    expect(page.locator(".row")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"\?q=many-7$"))
    page.reload()
    expect(page.locator(".row")).to_have_count(1)


def test_all_of_it_works_without_scripts(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/repos/")
        page.get_by_label("https URL or local path").fill(str(live_product.repo("no-scripts-repo")))
        page.get_by_role("button", name="Add", exact=True).click()
        page.get_by_role("link", name="no-scripts-repo", exact=True).click()
        page.get_by_label("Check command").fill("cat greeting.txt")
        page.get_by_role("button", name="Save and try").click()
        for _ in range(100):
            if page.get_by_text("It works").count():
                break
            page.get_by_role("link", name="Look again").last.click()
            page.wait_for_timeout(200)  # there is nothing on such a page to wait for
        expect(page.get_by_role("log")).to_contain_text("Hello")

        section = page.get_by_role("region", name="Variables")
        section.get_by_label("Name").fill("MODE")
        section.get_by_label("Value").first.fill("fast")
        section.get_by_role("button", name="Set", exact=True).click()
        page.get_by_role("link", name="Change MODE").click()
        page.get_by_label("Value of MODE").fill("slow")
        page.get_by_role("region", name="Variables").get_by_role("button", name="Save").click()
        expect(page.get_by_role("region", name="Variables")).to_contain_text("slow")
        page.get_by_role("link", name="Remove MODE").click()
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_role("region", name="Variables")).to_contain_text("No variables.")

        page.get_by_role("link", name="Remove…").click()
        page.get_by_role("button", name="Remove").click()
        page.wait_for_url("/repos/")
        expect(page.get_by_role("link", name="no-scripts-repo", exact=True)).to_have_count(0)
