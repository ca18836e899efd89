"""The whole way with GitHub, in a browser: signed in there, a repository and a branch chosen, two runs, one pull request, merged."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tasks.review.diffs import anchor
from tests.browser.pages import SLOW_MS, choose_shell
from tests.github.server import GitHubServer, github_server
from tests.spine.product import BRISK, GIT, Product

pytestmark = pytest.mark.browser
SECRET = "webhook-secret"
# In every Python process of the product: writes down each program that is started, with its arguments.
WRAPPER = """import os, sys

def note(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system"):
        with open(os.environ["STARTED"], "a") as file:
            file.write(f"{arguments[:2]}\\n")

sys.addaudithook(note)
"""
SCRIPT = """set -e
echo changed >> README.md
rm old.txt
mkdir -p a/b
printf 'binary\\0\\1\\377' > a/b/data.bin
echo "$RANDOM" > tool.sh
chmod +x tool.sh
ln -s README.md link
git add -A
echo "tree $(git write-tree)"
"""


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing() -> None:
    """Nothing of the product that other tests share is used here."""


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with github_server() as server:
        server.add_user("octo")
        server.add_user("acme-bot")
        server.add_repo("octo/blog")
        files = {"README.md": "# Shop\r\n", "old.txt": "old\n", ".gitattributes": "*.txt text\n"}
        server.add_repo("acme/shop", files, private=True, permissions={"octo": "push"})
        server.push("acme/shop", "release/2", {"only-here.txt": "2\n"})
        yield server


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """What is written down of the programs that the product starts."""
    (tmp_path / "wrapper").mkdir()
    (tmp_path / "wrapper" / "sitecustomize.py").write_text(WRAPPER)
    return tmp_path / "started"


@pytest.fixture
def product(github: GitHubServer, started: Path) -> Iterator[Product]:
    product = Product(
        **BRISK,
        PYTHONPATH=str(started.with_name("wrapper")),
        STARTED=str(started),
        GITHUB_URL=github.url,
        GITHUB_CLIENT_ID="client",
        GITHUB_CLIENT_SECRET="app-secret",
        GITHUB_ALLOWED_USERS="octo",
        GITHUB_WEBHOOK_SECRET=SECRET,
    )
    try:
        product.environment["ALLOW_PRIVATE_HOSTS"] += f",{github.url.removeprefix('http://')}"
        product.start()
        github.add_oauth_app("client", "app-secret", [f"{product.url}/accounts/github/login/callback/"])
        yield product
    finally:
        product.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page on which no script fails and nothing is done that the Content-Security-Policy forbids."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None)
    yield page
    assert not wrong


def agree(page: Page, github: GitHubServer) -> None:
    """What octo does at GitHub, whose page the browser is on."""
    page.wait_for_url(f"{github.url}/login/oauth/authorize?*")
    page.goto(github.authorize(page.url, "octo"))


def test_from_signing_in_with_github_to_a_merged_pull_request(
    page: Page, github: GitHubServer, product: Product, started: Path, tmp_path: Path
) -> None:
    page.goto(f"{product.url}/settings/")
    page.get_by_role("button", name="Sign in with GitHub").click()
    agree(page, github)
    page.locator("#github").get_by_role("button", name="Connect repositories").click()
    agree(page, github)
    expect(page.locator("#messages")).to_contain_text("You are connected to GitHub as octo.")

    page.goto(product.url)
    page.get_by_label("Prompt", exact=True).fill(SCRIPT)
    page.locator("#repo-picker > summary").click()
    there = page.locator("#repo-picker").get_by_role("group", name="On GitHub")
    expect(there.locator(".name")).to_have_count(2)
    expect(page.get_by_label("Search repositories")).to_be_focused()
    page.keyboard.type("shop")
    page.locator("#repo-picker .found[data-q=shop] .at-github .option").wait_for()
    page.keyboard.press("Enter")
    expect(page.locator("#repo-picker > summary")).to_contain_text("acme/shop")
    page.locator("#branch-picker > summary").click()
    expect(page.get_by_label("Search branches")).to_be_focused()
    page.keyboard.type("rele")
    page.locator("#branch-picker .found[data-q=rele] .option").first.wait_for()
    page.keyboard.press("Enter")
    expect(page.locator("#branch-picker > summary")).to_contain_text("release/2")
    choose_shell(page, 2)
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    page.wait_for_url(re.compile(r"/tasks/\d+/$"), timeout=SLOW_MS)
    task = int(page.url.rstrip("/").rpartition("/")[2])
    runs = [row["id"] for row in product.rows("SELECT id FROM tasks_run WHERE task_id = %s ORDER BY id", task)]
    assert [product.ended(run)["status"] for run in runs] == ["succeeded", "succeeded"]

    page.goto(f"{product.url}/runs/{runs[1]}/")
    page.get_by_role("link", name="Open pull request").first.click()
    page.get_by_role("button", name="Open pull request").click()
    expect(page.get_by_role("heading", name="Pull request #1")).to_be_visible(timeout=SLOW_MS)
    branch = product.run(runs[1])["branch"]
    assert [(pull["head"]["ref"], pull["base"]["ref"]) for pull in github.pulls("acme/shop")] == [(branch, "release/2")]
    clone = [*GIT, "clone", "-q", "--bare", str(github.world.repositories["acme/shop"].path), str(tmp_path / "clone")]
    subprocess.run(clone, check=True)
    pushed = subprocess.run([*GIT, "-C", str(tmp_path / "clone"), "rev-parse", f"{branch}^{{tree}}"], capture_output=True, check=True)
    assert f"tree {pushed.stdout.decode().strip()}\n" in product.text(runs[1])

    page.goto(f"{product.url}/runs/{runs[1]}/changes/")
    page.locator(f"#{anchor('README.md')}-R2").click()
    page.keyboard.press("c")
    page.get_by_role("textbox", name="Comment").fill("Why @octo?")
    page.get_by_role("button", name="Save draft").click()
    page.locator("#drafts > details > summary").click()
    page.get_by_role("link", name="Post as review of #1").click()
    page.get_by_label("Summary, if any").fill("Nearly there.")
    page.get_by_role("button", name="Post review").click()
    [review] = github.reviews("acme/shop", 1)
    expect(page.get_by_role("link", name="posted")).to_have_attribute("href", review["html_url"])
    assert [(one["path"], one["line"], one["body"]) for one in review["comments"]] == [("README.md", 2, "Why @octo?")]
    assert (review["user"]["login"], review["body"].startswith("Nearly there.")) == ("octo", True)

    page.goto(f"{product.url}/runs/{runs[1]}/")
    chip = page.locator("a.pull[data-state]").first
    expect(chip).to_have_attribute("data-state", "open")
    page.evaluate("window.isStillHere = true")
    github.webhooks.listen(f"{product.url}/github/webhook", SECRET)
    github.merge("acme/shop", 1)
    expect(chip).to_have_attribute("data-state", "merged", timeout=SLOW_MS)
    assert page.evaluate("window.isStillHere")

    (token,) = (token for token, owned in github.world.tokens.items() if owned.login == "octo" and owned.has("repo"))
    tables = [row["name"] for row in product.rows("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")]
    rows = [row["text"] for table in tables for row in product.rows(f'SELECT t::text AS text FROM "{table}" AS t')]
    assert any("github.com" in text or github.url in text for text in rows)
    programs = started.read_text()
    assert "'push'" in programs
    assert "bwrap" in programs
    for said in (*rows, programs, product.log.read_text(errors="replace")):
        assert token not in said
        assert token.encode().hex() not in said  # as the database writes bytes
    kept = [
        path for name in ("mirrors", "sandboxes") for path in (product.data / name).rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert kept
    assert not [path for path in kept if token.encode() in path.read_bytes()]
