"""Takes the pictures in docs/images, of a product of its own with the made-up task of `pictured.py`: `scripts/screenshots`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.github.server import GitHubServer, github_server
from tests.spine.product import SOURCE, Product, wait_for

IMAGES = SOURCE / "docs/images"
SCENE = Path(__file__).with_name("pictured.py")
MOST_BYTES = 200_000
SIZE = {"width": 1180, "height": 760}
UPLOADER = "acme/uploader"
SECRET = "webhook-secret"


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


def fill_in(page: Page) -> None:
    description = page.get_by_label("Description")
    description.fill(re.sub(r"localhost:\d+", "localhost:8000", description.input_value()))
    page.get_by_role("combobox", name="Reviewers").fill("kim")
    page.get_by_role("option", name="kim").click()
    page.get_by_role("combobox", name="Labels").fill("bug")
    page.get_by_role("option", name="bug").click()
    page.get_by_role("heading", name="Open pull request").click()


PICTURES = (
    Picture("home", "/", write_prompt),
    Picture("task", "/tasks/{task}/"),
    Picture("run", "/runs/{run}/"),
    Picture("changes", "/runs/{run}/changes/", wait_for_lines),
    Picture("compare", "/tasks/{task}/compare/"),
    Picture("pull-request", "/runs/{run}/pull-request", fill_in),
)
AFTERWARDS = Picture("pull-request-open", "/runs/{run}/")


def begin(github: GitHubServer) -> None:
    """Who is at GitHub; what is in the repository comes from the scene."""
    for login in ("kim", "sam"):
        github.add_user(login, f"token-of-{login}")
    github.add_repo(UPLOADER, {}, permissions={"kim": "push", "sam": "push"})
    for name, color in (("bug", "d73a4a"), ("storage", "0e8a16")):
        github.add_label(UPLOADER, name, color)


def take(page: Page, picture: Picture, ids: dict[str, int]) -> None:
    page.goto(picture.path.format(**ids))
    picture.then(page)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / f"{picture.name}.png", animations="disabled")


def review(page: Page, github: GitHubServer, product: Product) -> None:
    """The pull request whose form the page has is opened, checked and reviewed."""
    page.get_by_role("button", name="Open pull request").click()
    page.get_by_role("heading", name="Pull request #1").wait_for()
    github.webhooks.listen(f"{product.url}/github/webhook", SECRET)
    commit = github.pull(UPLOADER, 1)["head"]["sha"]
    for name, conclusion in (("tests (3.11)", "success"), ("tests (3.12)", "success"), ("lint", "failure")):
        github.add_check_run(UPLOADER, commit, name, conclusion=conclusion)
    github.add_review(UPLOADER, 1, "kim", "REQUEST_CHANGES", "Please log each retry.")

    def is_known() -> bool:
        row = product.rows("SELECT * FROM tasks_pullrequest")[0]
        return row["checks"] == "failure" and row["review"] == "changes_requested"

    wait_for(is_known, "what GitHub says of it", 90, 0.2)


def main() -> None:
    if not (pngquant := shutil.which("pngquant")):
        sys.exit("The pictures are made small by pngquant, which was not found. On Debian or Ubuntu: apt install pngquant")
    with github_server() as github, sync_playwright() as playwright:
        begin(github)
        keys = {"GITHUB_URL": github.url, "GITHUB_TOKEN": "token-of-sam", "GITHUB_WEBHOOK_SECRET": SECRET}
        with closing(Product(PASSWORD_LOGIN="0", **keys)) as product:
            product.environment["ALLOW_PRIVATE_HOSTS"] += f",{github.url.removeprefix('http://')}"
            product.start()
            ids = json.loads(product.manage("shell", "--no-imports", "-c", SCENE.read_text()).stdout)
            repository = github.world.repositories[UPLOADER]
            repository.git("fetch", "--quiet", ids["folder"], "main:main")
            github.front.pushed(repository, {}, "sam")
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            look = {"color_scheme": "light", "reduced_motion": "reduce", "device_scale_factor": 2}
            page = browser.new_page(base_url=product.url, viewport=SIZE, **look)
            link = re.search(r"/sign-in/link/\S+", product.manage("login-link").stdout)
            assert link
            page.goto(link[0])
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(product.url + "/")
            IMAGES.mkdir(exist_ok=True)
            for picture in PICTURES:
                take(page, picture, ids)
            review(page, github, product)
            take(page, AFTERWARDS, ids)
            browser.close()
    for path in sorted(IMAGES.glob("*.png")):
        subprocess.run([pngquant, "--force", "--strip", "--speed=1", "--ext=.png", path], check=True)
        if path.stat().st_size > MOST_BYTES:
            sys.exit(f"{path} has {path.stat().st_size} bytes; {MOST_BYTES} is the most.")


if __name__ == "__main__":
    main()
