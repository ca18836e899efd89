"""The list of tasks in the browser: it follows by itself, is searched as one types, and keeps what one has chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.pages import SLOW_MS, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py

SEED = """
from django.utils import timezone
from tasks.models import Repo, Run, Task, Turn, User
owner = User.objects.filter(is_staff=True).order_by("pk").first()
repo, _ = Repo.objects.get_or_create(
    owner=owner, source="https://example.org/{name}", defaults=dict(name="{name}", default_branch="main", mirrored_at=timezone.now())
)
for number in range({count}):
    task = Task.objects.create(
        owner=owner, repo=repo, title=f"{name} {{number}}", prompt="true", base_branch="main", base_commit="a" * 40
    )
    run = Run.objects.create(
        task=task, agent="shell", attempt=1, backend="local", branch="b", status="succeeded", started_at=timezone.now(),
        finished_at=timezone.now(),
    )
    Turn.objects.create(run=run, number=1, prompt="true", author=owner, status="succeeded")
"""


@pytest.fixture
def seed(live_product: Product) -> Callable[[str, int], None]:
    """Make tasks that are over: `NAME 0`, `NAME 1`, …"""

    def seed(name: str, count: int) -> None:
        live_product.shell(SEED.format(name=name, count=count))

    return seed


def titles(page: Page, name: str) -> list[str]:
    return [title for title in page.locator(".task .title").all_text_contents() if title.startswith(name)]


def choose(page: Page, title: str, **options: Any) -> None:
    page.get_by_label(f"Choose {title}", exact=True).click(**options)


def test_the_list_follows_by_itself(page: Page, live_product: Product) -> None:
    submit(page, live_product, "follows", "sleep 4", attempts=2)
    page.goto("/")
    row = page.locator(".task").first
    expect(row.locator("[data-status=running]").first).to_be_attached(timeout=SLOW_MS)
    expect(page).to_have_title(re.compile(r"● \d running"))
    expect(row).to_contain_text("×2", timeout=SLOW_MS)
    expect(row.locator("[data-status=succeeded]")).to_have_count(1, timeout=SLOW_MS)
    expect(row).to_contain_text("took")


def test_search_as_one_types_with_filters_and_the_way_back(page: Page, seed: Callable[[str, int], None]) -> None:
    seed("walrus", 3)
    page.goto("/")
    page.evaluate("window.isSamePage = true")
    page.get_by_role("heading", name="What should the agents do?").click()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type("walr 1")
    expect(page.locator(".task")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"/\?q=walr\+1$"))
    expect(page.get_by_label("Search tasks")).to_be_focused()

    page.get_by_role("navigation", name="Which tasks").get_by_text("Failed").click()
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/\?show=failed&q=walr\+1$"))
    page.go_back()
    expect(page.locator(".task")).to_have_count(1)
    page.go_back()
    expect(page.get_by_label("Search tasks")).to_have_value("")
    expect(page.locator(".task").nth(2)).to_be_visible()
    assert page.evaluate("window.isSamePage")


def test_several_are_chosen_archived_and_brought_back(page: Page, seed: Callable[[str, int], None]) -> None:
    seed("otter", 6)
    page.goto("/?q=otter")
    choose(page, "otter 5")
    choose(page, "otter 2", modifiers=["Shift"])
    expect(page.get_by_text("4 chosen")).to_be_visible()
    page.get_by_label("Choose all on this page").check()
    expect(page.get_by_text("6 chosen")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#chosen")).to_be_hidden()

    choose(page, "otter 5")
    choose(page, "otter 4")
    page.locator("#chosen").get_by_role("button", name="Archive").click()
    expect(page.get_by_text("2 tasks are archived.")).to_be_visible()
    expect(page.locator(".task")).to_have_count(4)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("2 tasks are back.")).to_be_visible()
    page.goto("/?q=otter")
    assert len(titles(page, "otter")) == 6


def test_news_take_neither_what_is_chosen_nor_older_rows_nor_the_focus(page: Page, seed: Callable[[str, int], None]) -> None:
    seed("beaver", 32)
    page.goto("/?q=beaver")
    page.get_by_role("link", name="Older tasks").click()
    expect(page.locator(".task")).to_have_count(32)
    choose(page, "beaver 3")
    choose(page, "beaver 30")
    before = page.evaluate("scrollY")
    with page.expect_response(re.compile(r"q=beaver.*to=\d+")):
        page.evaluate("htmx.trigger('#tasks', 'news')")
    seed("beaver", 1)
    with page.expect_response(re.compile(r"q=beaver.*to=\d+")):
        page.evaluate("htmx.trigger('#tasks', 'news')")
    expect(page.locator(".task")).to_have_count(33)
    expect(page.get_by_text("2 chosen")).to_be_visible()
    expect(page.get_by_label("Choose beaver 30", exact=True)).to_be_focused()
    expect(page.get_by_label("Choose beaver 3", exact=True)).to_be_checked()
    assert page.evaluate("scrollY") == before


def test_what_still_works_is_asked_about(page: Page, live_product: Product) -> None:
    submit(page, live_product, "asked", "sleep 600")
    page.goto("/?q=asked&show=working")
    page.locator(".task .choose input").check()
    page.locator("#chosen").get_by_role("button", name="Archive").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("It still works")
    question.get_by_text("Keep it").click()
    expect(page.get_by_text("1 chosen")).to_be_visible()
    page.locator("#chosen").get_by_role("button", name="Archive").click()
    question.get_by_role("button", name="Archive").click()
    expect(question).to_be_hidden()
    expect(page.get_by_text("The task is archived.")).to_be_visible()
    expect(page.locator(".task")).to_have_count(0, timeout=SLOW_MS)


def test_without_scripts(browser: Browser, signed_in: Any, live_product: Product, seed: Callable[[str, int], None]) -> None:
    seed("heron", 22)
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        _without_scripts(context)


def _without_scripts(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Search tasks").fill("heron")
    page.get_by_label("Search tasks").press("Enter")
    expect(page.locator(".task")).to_have_count(20)
    page.get_by_role("navigation", name="Which tasks").get_by_text("Done").click()
    page.get_by_role("link", name="Older tasks").click()
    expect(page.locator(".task .title")).to_have_text(["heron 1", "heron 0"])
    page.get_by_label("Choose heron 1", exact=True).check()
    page.locator("#chosen").get_by_role("button", name="Archive").click()
    expect(page.get_by_text("The task is archived.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/\?show=done&q=heron$"))
    page.get_by_role("navigation", name="Which tasks").get_by_text("Archived").click()
    page.get_by_label("Choose heron 1", exact=True).check()
    page.get_by_role("button", name="Bring back").click()
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
