"""The composer in a real browser: by keyboard alone, with drafts, with several tasks, and without scripts."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.pages import SLOW_MS, Product, choose_repo, choose_shell, submit

pytestmark = pytest.mark.browser
TASK = re.compile(r"/tasks/\d+/$")


def prompt(page: Page) -> Any:
    return page.get_by_label("Prompt", exact=True)


def runs(page: Page, number: int) -> None:
    """As if they had been chosen so the last time."""
    page.locator("[name=runs-shell]").evaluate(
        f"field => {{ field.value = {number}; field.dispatchEvent(new Event('input', {{bubbles: true}})); }}"
    )


def focused(page: Page) -> str:
    """The name of what has the focus, as a screen reader would say it."""
    return str(page.evaluate("(document.activeElement.ariaLabel ?? document.activeElement.innerText).trim().replace(/\\s+/g, ' ')"))


def tab_to(page: Page, name: str) -> None:
    for _ in range(60):
        if name in focused(page):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab never comes to {name!r}; it is at {focused(page)!r}.")


def with_branch(product: Product, name: str) -> str:
    path = product.repo(name)
    subprocess.run(["git", "-C", path, "branch", "topic/keyboard"], check=True)
    return str(path)


def test_the_whole_way_by_keyboard_alone(page: Page, live_product: Product) -> None:
    submit(page, live_product, "elsewhere", "true")
    page.goto("/")
    choose_repo(page, with_branch(live_product, "keyboard"))  # so that there is a mirror to search
    prompt(page).fill("true")
    prompt(page).press("Control+Enter")
    page.wait_for_url(TASK, timeout=SLOW_MS)
    expect(page.get_by_text("Succeeded").first).to_be_visible(timeout=SLOW_MS)

    page.goto("/")
    expect(prompt(page)).to_be_focused()
    runs(page, 1)
    prompt(page).focus()
    page.keyboard.type("echo by keyboard > new.txt")

    tab_to(page, "Repository:")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Search repositories")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Escape")
    expect(page.locator("#repo-picker > summary")).to_be_focused()
    expect(page.locator("#repo-picker .popover")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Search repositories")).to_be_focused()
    page.keyboard.type("elsewh")
    page.keyboard.press("Enter")  # before the answer is there, and it still takes what was searched for
    expect(page.locator("#repo-picker > summary")).to_contain_text("elsewhere")
    expect(page.locator("#repo-picker > summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Search repositories")).to_be_focused()
    page.get_by_label("Search repositories").fill("")
    page.keyboard.type("keyboard")
    expect(page.locator("#repo-picker .found")).to_have_attribute("data-q", "keyboard")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#repo-picker > summary")).to_contain_text("keyboard")

    tab_to(page, "Branch:")
    expect(page.locator("#branch-picker > summary")).to_contain_text("main")
    page.keyboard.press("Enter")
    expect(page.get_by_role("radio", name="topic/keyboard")).to_be_visible()
    page.keyboard.type("TOPIC")
    page.keyboard.press("Enter")
    expect(page.locator("#branch-picker > summary")).to_contain_text("topic/keyboard")

    tab_to(page, "Remove Shell script")
    page.keyboard.press("Tab")
    expect(page.locator("#agent-picker > summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#agent-picker input[type=number]").first).to_be_focused()
    tab_to(page, "Runs of Shell script")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator(".crew")).to_contain_text("×2")
    expect(page.locator("#run-count")).to_have_text(re.compile("^2 runs · "))
    page.keyboard.press("Control+Enter")
    page.wait_for_url(TASK, timeout=SLOW_MS)
    expect(page.get_by_text("topic/keyboard").first).to_be_visible()
    expect(page.locator(".card")).to_have_count(2)


def test_chips_say_what_runs_and_change_it(page: Page, live_product: Product) -> None:
    page.goto("/")
    runs(page, 1)
    chip = page.locator(".crew > [data-runs=runs-shell]")
    page.get_by_role("button", name="One run more of Shell script").first.click()
    expect(chip).to_contain_text("×2")
    page.get_by_role("button", name="One run fewer of Shell script").first.click()
    expect(chip).to_contain_text("×1")
    expect(chip.get_by_role("button", name="fewer")).to_be_disabled()
    chip.get_by_role("button", name="Remove").click()
    expect(chip).to_be_hidden()
    expect(page.locator("#run-count")).to_have_text("Choose an agent")
    expect(page.locator("#agent-picker > summary")).to_be_focused()
    choose_shell(page, 3)
    expect(chip).to_contain_text("×3")
    page.keyboard.press("Escape")
    chip.get_by_role("button", name="more").focus()
    page.keyboard.press("Delete")
    expect(chip).to_be_hidden()


def test_a_repository_is_chosen_by_pointer(page: Page, live_product: Product) -> None:
    page.goto("/")
    for name in ("pointed", "pointed-too"):
        choose_repo(page, str(live_product.repo(name)))
        prompt(page).fill(f"echo {name}")
        prompt(page).press("Control+Enter")
        page.wait_for_url(TASK, timeout=SLOW_MS)
        page.goto("/")
    page.locator("#repo-picker > summary").click()
    page.locator("#repo-picker .option", has_text=re.compile("^\\s*pointed\\s")).click()
    expect(page.locator("#repo-picker [data-shown]")).to_have_text("pointed")
    expect(page.locator("#repo-picker .popover")).to_be_hidden()
    page.locator("#repo-picker > summary").click()
    page.get_by_role("heading", name="What should the agents do?").click()
    expect(page.locator("#repo-picker .popover")).to_be_hidden()


def test_choosing_another_repository_forgets_the_branch(page: Page, live_product: Product) -> None:
    page.goto("/")
    choose_repo(page, with_branch(live_product, "forgetful"))
    page.locator("#branch-picker > summary").click()
    page.get_by_label("Search branches").fill("topic/keyboard")
    page.get_by_label("Search branches").press("Enter")
    expect(page.locator("#branch-picker > summary")).to_contain_text("topic/keyboard")
    choose_repo(page, str(live_product.repo("forgotten")))
    expect(page.locator("#repo-picker > summary")).to_contain_text("forgotten")
    expect(page.locator("#branch-picker > summary")).to_contain_text("default branch")


def test_a_draft_outlives_the_page_until_it_is_sent(page: Page, live_product: Product) -> None:
    page.goto("/")
    prompt(page).fill("echo a draft")
    choose_repo(page, str(live_product.repo("drafted")))
    choose_shell(page, 2)
    page.goto("/repos/")
    page.goto("/")
    expect(prompt(page)).to_have_value("echo a draft")
    expect(page.locator("#repo-picker > summary")).to_contain_text("drafted")
    expect(page.locator(".crew")).to_contain_text("×2")

    prompt(page).press("Control+Enter")
    page.wait_for_url(TASK, timeout=SLOW_MS)
    page.goto("/")
    expect(prompt(page)).to_have_value("")


def test_a_draft_that_is_refused_or_emptied(page: Page) -> None:
    page.goto("/")
    prompt(page).fill("echo refused")
    page.locator("[name=branch]").evaluate("field => { field.value = 'a..b'; }")
    page.locator("[name=source]").evaluate("field => { field.value = 'https://example.org/never'; }")
    prompt(page).press("Control+Enter")
    expect(page.get_by_text("This cannot be a branch name")).to_be_visible()
    expect(prompt(page)).to_have_value("echo refused")
    page.goto("/")
    expect(prompt(page)).to_have_value("echo refused")
    prompt(page).fill("")
    page.goto("/repos/")
    page.goto("/")
    expect(prompt(page)).to_have_value("")


def test_a_draft_is_nobody_elses(page: Page) -> None:
    page.goto("/")
    prompt(page).fill("echo mine")
    page.goto("/repos/")
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('draft:'))")[0].startswith("draft:new-")
    page.evaluate(
        "for (const [key, value] of Object.entries(localStorage)) { localStorage['draft:new-0'] = value; delete localStorage[key]; }"
    )
    page.goto("/")
    expect(prompt(page)).to_have_value("")


def test_several_tasks_are_shown_edited_and_started(page: Page, live_product: Product) -> None:
    page.goto("/")
    choose_repo(page, str(live_product.repo("several")))
    runs(page, 1)
    page.get_by_label("Several tasks").check(force=True)
    prompt(page).fill("echo one > a\n\necho two > b\n\necho three > c")
    expect(page.locator("#run-count")).to_have_text("1 run for each prompt")
    prompt(page).press("Control+Enter")
    expect(page.get_by_role("heading", name="Start these tasks?")).to_be_visible()
    page.get_by_role("button", name="Back").click()
    expect(prompt(page)).to_have_value("echo one > a\n\necho two > b\n\necho three > c")
    page.get_by_role("button", name="Code", exact=True).click()
    page.locator("[name=keep]").nth(1).uncheck()
    page.get_by_label("Prompt 3").fill("echo 3 > c")
    expect(page.locator("#run-count")).to_have_text(re.compile("^2 tasks × 1 run = 2 runs · "))
    page.get_by_role("button", name="Start 2 tasks").click()
    page.wait_for_url("/")
    expect(page.get_by_text("Started 2 tasks with 2 runs.")).to_be_visible()
    expect(page.get_by_role("link", name="echo one > a")).to_be_visible()
    expect(page.get_by_role("link", name="echo 3 > c")).to_be_visible()
    expect(prompt(page)).to_have_value("")


def test_several_tasks_without_scripts(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#run-count")).to_contain_text("runs at work at once")
        page.locator("#repo-picker > summary").click()
        page.locator("[name=source]").fill(str(live_product.repo("several-plain")))
        page.locator("#branch-picker > summary").click()
        page.get_by_label("Name of the branch").fill("main")
        page.get_by_label("Several tasks").check(force=True)
        page.locator("[name=list]").set_input_files(
            {"name": "todo.md", "mimeType": "text/markdown", "buffer": b"- echo plain one\n- echo plain two\n"}
        )
        page.get_by_role("button", name="Code", exact=True).click()
        expect(page.get_by_label("Prompt 2")).to_have_value("echo plain two")
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("/")
        expect(page.get_by_role("link", name="echo plain one")).to_be_visible()


def test_enter_in_a_field_sends_nothing(page: Page, context: BrowserContext) -> None:
    page.goto("/")
    prompt(page).fill("echo not yet")
    page.locator("#repo-picker > summary").click()
    page.get_by_label("Search repositories").fill("there is no such repository")
    expect(page.get_by_text("No repository of yours has")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/$"))
    expect(prompt(page)).to_have_value("echo not yet")


def test_on_a_phone_no_keyboard_comes_by_itself(browser: Browser, signed_in: Any, live_product: Product) -> None:
    phone = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True}
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, **phone) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#run-count")).to_contain_text("run")
        expect(prompt(page)).not_to_be_focused()
        for picker in ("#repo-picker", "#branch-picker", "#agent-picker"):
            page.locator(f"{picker} > summary").tap()
            expect(page.locator(f"{picker} .popover")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, picker
            page.keyboard.press("Escape")
