"""Files and templates in the composer: chosen, pasted, dropped, removed, kept, inserted; and without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, Route, expect

from tests.browser.pages import SLOW_MS, choose_repo

pytestmark = pytest.mark.browser
Product = Any  # tests/browser/conftest.py

PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\5\0\1\xff"
    b"\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82"
)
TRANSFER = """([files, text]) => {
  const data = new DataTransfer();
  for (const [name, type, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name, { type }));
  if (text) data.setData("text/plain", text);
  return data;
}"""


def payload(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def chips(page: Page) -> Locator:
    return page.get_by_role("list", name="Attached files").get_by_role("listitem")


def paste(page: Page, *files: tuple[str, str, bytes], text: str = "") -> None:
    data = page.evaluate_handle(TRANSFER, [[[name, kind, list(content)] for name, kind, content in files], text])
    page.get_by_label("Prompt", exact=True).evaluate(
        "(field, data) => field.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }))", data
    )


def forget_templates(product: Product) -> None:
    product.shell("from tasks.models import PromptTemplate; PromptTemplate.objects.all().delete()")


def test_files_are_chosen_pasted_dropped_and_removed(page: Page, live_product: Product) -> None:
    page.goto("/")
    page.get_by_label("Attach files").set_input_files([payload("notes.txt", b"notes"), payload("shot.png", PNG)])
    expect(chips(page)).to_have_count(2)
    expect(chips(page).filter(has_text="notes.txt")).to_contain_text("5 bytes")
    picture = chips(page).filter(has_text="shot.png").locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1

    paste(page, ("image.png", "image/png", PNG))
    expect(chips(page).filter(has_text="pasted-1.png")).to_be_visible()
    paste(page, ("image.png", "image/png", PNG))
    expect(chips(page).filter(has_text="pasted-2.png")).to_be_visible()
    paste(page, ("image.png", "image/png", PNG), text="a cell")
    expect(chips(page)).to_have_count(4)

    data = page.evaluate_handle(TRANSFER, [[["dropped.log", "text/plain", list(b"log")]], ""])
    page.dispatch_event("#composer", "dragover", {"dataTransfer": data})
    expect(page.locator("#composer[data-drop]")).to_be_visible()
    page.dispatch_event("#composer", "drop", {"dataTransfer": data})
    expect(page.locator("#composer[data-drop]")).to_have_count(0)
    expect(chips(page).filter(has_text="dropped.log")).to_be_visible()

    remove = page.get_by_role("button", name="Remove notes.txt")
    remove.focus()
    remove.press("Enter")
    expect(chips(page)).to_have_count(4)
    expect(page.get_by_role("button", name="Remove shot.png")).to_be_focused()

    page.reload()  # a draft keeps its files
    expect(chips(page)).to_have_count(4)
    expect(chips(page).first).to_contain_text("shot.png")


def test_what_cannot_be_attached_is_said_beside_the_button(page: Page) -> None:
    page.goto("/")
    attach = page.get_by_label("Attach files")
    attach.set_input_files([payload("empty.txt", b"")])
    expect(page.get_by_role("alert").filter(has_text="empty.txt is empty.")).to_be_visible()
    attach.set_input_files([payload(f"{number}.txt", b"x") for number in range(11)])
    expect(page.get_by_role("alert").filter(has_text="10 files are the most")).to_be_visible()
    attach.set_input_files([payload("big.bin", bytes(10 * 2**20 + 1))])
    expect(page.get_by_role("alert").filter(has_text="big.bin has 10.0 MB")).to_be_visible()
    attach.set_input_files([payload("good.txt", b"good")])
    expect(chips(page)).to_have_count(1)
    expect(page.get_by_role("alert").filter(has_text="big.bin")).to_have_count(0)


def test_a_form_waits_for_its_files_and_the_agent_finds_them(page: Page, live_product: Product) -> None:
    page.goto("/")
    choose_repo(page, str(live_product.repo("attached")))
    page.get_by_label("Prompt", exact=True).fill('cat "$ASYNCCODE_ATTACHMENTS"/*.txt > found.txt')
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/attachments/", hold)
    page.get_by_label("Attach files").set_input_files([payload("ä b.txt", b"from the file\n")])
    expect(page.get_by_role("progressbar", name="Uploading ä b.txt")).to_be_visible()
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    assert page.url == f"{live_product.url}/"
    held[0].continue_()
    page.wait_for_url(re.compile(r"/tasks/\d+/$"), timeout=SLOW_MS)
    expect(page.locator(".card")).to_contain_text("Succeeded", timeout=SLOW_MS)
    page.goto("/")
    expect(chips(page)).to_have_count(0)


def test_without_scripts_files_go_with_the_form(browser: Browser, signed_in: Any, live_product: Product) -> None:
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Attach files").set_input_files([payload("notes.txt", b"notes"), payload("other.txt", b"other")])
        page.locator(".ways-to-send button").last.click()
        # The prompt is missing; the files are kept, and one is left out by its checkbox.
        expect(chips(page)).to_have_count(2)
        page.get_by_label("Send other.txt along").uncheck()
        page.get_by_label("Prompt", exact=True).fill("ls ~/attachments")
        page.locator("#repo-picker > summary").click()
        page.locator("#id_source").fill(str(live_product.repo("scriptless-files")))
        page.locator(".ways-to-send button").last.click()
        page.wait_for_url(re.compile(r"/tasks/\d+/$"), timeout=SLOW_MS)
        names = live_product.shell("from tasks.models import Turn; print([a.name for a in Turn.objects.latest('pk').attachments.all()])")
        assert names.strip() == "['notes.txt']"


def test_a_template_is_saved_found_inserted_and_taken_back(page: Page, live_product: Product) -> None:
    forget_templates(live_product)
    page.goto("/")
    prompt = page.locator("#id_prompt")
    prompt.fill("Add tests.\nRun them.")
    page.get_by_text("Templates", exact=True).click()
    expect(page.get_by_text("No templates yet.")).to_be_visible()
    page.get_by_role("link", name="Save this prompt as a template…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_have_value("Add tests.")
    dialog.get_by_label("Name").fill("Tests")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()

    # The same name again asks before it replaces.
    page.get_by_text("Templates", exact=True).click()
    page.get_by_role("link", name="Save this prompt as a template…").click()
    dialog.get_by_label("Name").fill("Tests")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_contain_text("already")
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_be_hidden()

    # By the keyboard alone: found by a word of its text, inserted where the cursor stands.
    prompt.fill("First.\n")
    prompt.press("Control+End")
    page.get_by_text("Templates", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Search templates")).to_be_focused()
    page.keyboard.type("run")
    expect(page.locator(".pick")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(prompt).to_have_value("First.\nAdd tests.\nRun them.")
    expect(prompt).to_be_focused()
    page.keyboard.press("Control+z")
    expect(prompt).to_have_value("First.\n")
    page.get_by_text("Templates", exact=True).click()
    page.get_by_label("Search templates").fill("no such thing")
    expect(page.get_by_text("No template has “no such thing” in it.")).to_be_visible()

    page.get_by_role("link", name="Manage templates…").click()
    page.get_by_role("link", name="Remove Tests").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="No templates yet")).to_be_visible()


def test_without_scripts_a_template_fills_the_composer(browser: Browser, signed_in: Any, live_product: Product) -> None:
    forget_templates(live_product)
    with browser.new_context(storage_state=signed_in, base_url=live_product.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/prompts/")
        page.get_by_role("button", name="Keep this one").click()
        page.get_by_role("link", name="New task from Add tests").click()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value(re.compile("^Find what has no tests"))
