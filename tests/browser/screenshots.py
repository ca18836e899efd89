"""Takes the pictures in docs/images, of a product of its own with the made-up task of `pictured.py`: `scripts/screenshots`."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.spine.product import SOURCE, Product

IMAGES = SOURCE / "docs/images"
SCENE = Path(__file__).with_name("pictured.py")
MOST_BYTES = 150_000
SIZE = {"width": 1180, "height": 760}


@dataclass(frozen=True)
class Picture:
    """`path` is formatted with the scene's ids; `then` brings the page into the state that is shown."""

    name: str
    path: str
    then: Callable[[Page], None] = lambda page: None


def write_prompt(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).fill("Say in the log why an upload is tried again.")
    page.get_by_label("Prompt", exact=True).blur()


def wait_for_lines(page: Page) -> None:
    page.locator("[data-ready]").wait_for()


PICTURES = (
    Picture("home", "/", write_prompt),
    Picture("task", "/tasks/{task}/"),
    Picture("run", "/runs/{run}/"),
    Picture("changes", "/runs/{run}/changes/", wait_for_lines),
    Picture("compare", "/tasks/{task}/compare/"),
)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    product = Product(PASSWORD_LOGIN="0")
    try:
        product.start()
        ids = json.loads(product.manage("shell", "--no-imports", "-c", SCENE.read_text()).stdout)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(base_url=product.url, viewport=SIZE, color_scheme="light", reduced_motion="reduce")
            link = re.search(r"/sign-in/link/\S+", product.manage("login-link").stdout)
            assert link
            page.goto(link[0])
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(product.url + "/")
            for picture in PICTURES:
                page.goto(picture.path.format(**ids))
                picture.then(page)
                page.wait_for_load_state("networkidle")
                page.screenshot(path=IMAGES / f"{picture.name}.png", animations="disabled")
            browser.close()
    finally:
        product.close()
    for path in sorted(IMAGES.glob("*.png")):
        if path.stat().st_size > MOST_BYTES:
            sys.exit(f"{path} has {path.stat().st_size} bytes; {MOST_BYTES} is the most.")


if __name__ == "__main__":
    main()
