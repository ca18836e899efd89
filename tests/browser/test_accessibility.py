"""axe finds nothing on any page, in light and in dark, on a desk and on a phone; and no page scrolls sideways."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route

from tests.browser.pages import SLOW_MS, choose_shell, submit

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py

AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "rules": {"target-size": {"enabled": True}},
    "resultTypes": ["violations"],
}
AXE_SCRIPT = Axe().axe_script
DESK, PHONE = (1280, 860), (390, 844)
WIDTHS = (360, 390, 768, 1280, 3840)

SCENE = Path(__file__).with_name("scene.py")


@dataclass(frozen=True)
class Visit:
    """How a page is reached; `then` brings it into the state that is looked at."""

    path: str
    then: Callable[[Page], None] | None = None
    by: str = "operator"  # or newcomer, nobody
    part: str = "html"  # what axe looks at: a menu lies over the page, which is looked at by itself


def click(selector: str) -> Callable[[Page], None]:
    return lambda page: page.locator(selector).first.click()


def press(key: str) -> Callable[[Page], None]:
    return lambda page: page.keyboard.press(key)


def write_comment(page: Page) -> None:
    page.locator("[data-ready]").wait_for()
    page.locator("td[id]").first.click()
    page.keyboard.press("c")
    page.locator(".writing").wait_for()


def answer(html: str) -> Callable[[Route], None]:
    return lambda route: route.fulfill(body=html, content_type="text/html")


def send_without_token(page: Page) -> None:
    page.evaluate(
        "() => { document.body.insertAdjacentHTML('beforeend', '<form id=stale method=post action=/sign-out>'); stale.submit(); }"
    )
    page.get_by_role("heading", level=1).wait_for()


def preview_several(page: Page) -> None:
    choose_shell(page, 1)
    page.get_by_label("Several tasks").check(force=True)
    page.get_by_label("Prompt", exact=True).fill("Add tests\n\nUpgrade Django")
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    page.get_by_role("heading", name="Start these tasks?").wait_for()


def add_webhook(page: Page) -> None:
    page.get_by_label("Address").fill("https://hooks.example.org/")
    page.get_by_role("button", name="Add webhook").click()
    page.locator(".secret").wait_for()


def open_webhook(page: Page) -> None:
    add_webhook(page)
    page.get_by_role("link", name="Try it").click()
    page.get_by_role("heading", name="Log").wait_for()


VISITS = {
    "home": Visit("/"),
    "home with shortcuts": Visit("/", press("?")),
    "home with the account's menu": Visit("/", click(".menu summary"), part=".menu"),
    "home with the repositories": Visit("/", click(".composer .picker summary")),
    "home of somebody new": Visit("/", by="newcomer"),
    "preview of several tasks": Visit("/?repo={repo}", preview_several),
    "archived tasks": Visit("/?archived"),
    "nothing found": Visit("/?q=nothingislikethis"),
    "task": Visit("/tasks/{task}/"),
    "question in a dialog": Visit("/tasks/{task}/", click("[hx-target='#dialog']")),
    "question on a page": Visit("/tasks/{task}/archive"),
    **{f"run that is {status}": Visit(f"/runs/{{{status}}}/") for status in ("running", "succeeded", "failed", "errored", "waiting")},
    "run with its changes": Visit("/runs/{succeeded}/#work"),
    "run with its network": Visit("/runs/{failed}/?tab=network#work"),
    "run with its sandbox": Visit("/runs/{failed}/?tab=sandbox#work"),
    "changes": Visit("/runs/{changed}/changes/"),
    "changes with their menus": Visit("/runs/{changed}/changes/", click(".more-menu summary"), part=".changes-bar"),
    "changes with a comment": Visit("/runs/{changed}/changes/", write_comment),
    "changes with drafts": Visit("/runs/{changed}/changes/", click("#drafts summary"), part="#drafts"),
    "comment": Visit("/runs/{changed}/comments/?file={main_file}"),
    "changes, searched": Visit("/runs/{changed}/changes/found?q=line"),
    "changes that cannot be shown": Visit("/runs/{succeeded}/changes/"),
    "files of a run": Visit("/runs/{changed}/files/"),
    "file of a run": Visit("/runs/{changed}/files/?path=src/app/main.py#L2"),
    "files of a run at work": Visit("/runs/{running}/files/"),
    "run with its artifacts": Visit("/runs/{changed}/?tab=artifacts#work"),
    "comparison": Visit("/tasks/{compared}/compare/"),
    "file in several runs": Visit("/tasks/{compared}/compare/file?runs={changed},{other},{failing}&file={main_file}"),
    "file in one run against another": Visit("/tasks/{compared}/compare/file?runs={other}&against={changed}&file={main_file}"),
    "run against another": Visit("/tasks/{compared}/compare/trees?old={changed}&new={other}"),
    "task of which a run is chosen": Visit("/tasks/{compared}/"),
    "question whether to choose a run": Visit("/runs/{changed}/choose"),
    "runs to combine": Visit("/tasks/{compared}/combine?runs={changed},{other}"),
    "statistics": Visit("/statistics/?days=all&of=all"),
    "webhooks and their new secret": Visit("/settings/webhooks/", add_webhook, by="newcomer"),
    "webhook": Visit("/settings/webhooks/", open_webhook, by="newcomer"),
    "repositories": Visit("/repos/"),
    "repository": Visit("/repos/{repo}/"),
    "repository that cannot be fetched": Visit("/repos/{broken}/"),
    "question about a variable": Visit("/repos/{repo}/variables/CI/remove"),
    "prompts": Visit("/prompts/"),
    "prompt": Visit("/prompts/{prompt}/"),
    "new prompt": Visit("/prompts/new"),
    "question about a prompt": Visit("/prompts/{prompt}/remove"),
    "settings": Visit("/settings/"),
    "settings with a form for a key": Visit("/settings/", click("#anthropic-own summary")),
    "question about a token": Visit("/settings/tokens/{token}/revoke"),
    "styleguide": Visit("/styleguide"),
    "not found": Visit("/nothing-is-here"),
    "wrong method": Visit("/sign-out"),
    "bad request": Visit("/?x=%00"),
    "a stale form": Visit("/repos/", send_without_token),
    "sign in": Visit("/sign-in/", by="nobody"),
    "login link": Visit("/sign-in/link/wrong/", by="nobody"),
    "used login link": Visit("/sign-in/link/wrong/", click("main button"), by="nobody"),
    "server error": Visit("/rendered/500", by="nobody"),
    "database away": Visit("/rendered/503", by="nobody"),
}


@pytest.fixture(scope="module")
def scene(browser: Browser, signed_in: Any, live_product: Product) -> dict[str, Any]:
    """Ids of a task with runs of every status, and of what else there is a page for."""
    ids = json.loads(live_product.shell(SCENE.read_text()))
    with browser.new_context(storage_state=signed_in, base_url=live_product.url) as context:
        page = context.new_page()
        submit(page, live_product, "axe", "echo started; sleep 600")
        page.locator(".card [data-status=running]").first.wait_for(timeout=SLOW_MS)
        return ids | {"running": page.locator(".card h2 a").first.get_attribute("href").strip("/").rpartition("/")[2]}


@pytest.fixture(scope="module")
def contexts(browser: Browser, signed_in: Any, live_product: Product, scene: dict[str, Any]) -> Iterator[dict[str, BrowserContext]]:
    made = {who: browser.new_context(base_url=live_product.url, reduced_motion="reduce") for who in ("newcomer", "nobody")}
    made["operator"] = browser.new_context(base_url=live_product.url, reduced_motion="reduce", storage_state=signed_in)
    page = made["newcomer"].new_page()
    page.goto(live_product.url + scene["link"][scene["link"].index("/sign-in/") :])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(live_product.url + "/")
    for status, html in scene["bare"].items():
        made["nobody"].route(f"**/rendered/{status}", answer(html))
    yield made
    for context in made.values():
        context.close()


def open_page(context: BrowserContext, visit: Visit, scene: dict[str, Any]) -> Page:
    page = context.new_page()
    page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
    page.goto(visit.path.format(**scene))
    if visit.then:
        visit.then(page)
        page.wait_for_load_state("networkidle")
    return page


def violations(page: Page, part: str) -> list[str]:
    """What axe finds: the rule, and where."""
    found = page.evaluate("([part, options]) => axe.run(part, options)", [part, AXE])["violations"]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("name", VISITS)
def test_axe_finds_nothing(contexts: dict[str, BrowserContext], scene: dict[str, Any], name: str) -> None:
    visit = VISITS[name]
    page = open_page(contexts[visit.by], visit, scene)
    page.evaluate(AXE_SCRIPT)
    found = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width, height in (DESK, PHONE):
            page.set_viewport_size({"width": width, "height": height})
            found |= {f"{scheme}, {width} px: {each}" for each in violations(page, visit.part)}
    page.close()
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize("name", VISITS)
def test_no_page_scrolls_sideways(contexts: dict[str, BrowserContext], scene: dict[str, Any], name: str) -> None:
    visit = VISITS[name]
    page = open_page(contexts[visit.by], visit, scene)
    wide = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        if (found := page.evaluate("document.documentElement.scrollWidth")) > width:
            wide[width] = found
    page.close()
    assert not wide
