"""Prompt templates on pages: kept, replaced after a question, chosen, removed; also without scripts."""

from __future__ import annotations

import pytest
from django.test import Client

from tasks.models import PromptTemplate, User
from tasks.prompt_templates import save_template

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def template(alice: User) -> PromptTemplate:
    return save_template(by=alice, name="Add <tests>", prompt="Find what has no tests.\nAdd them.")


def test_an_empty_page_teaches_with_an_example_that_can_be_kept(as_alice: Client, alice: User) -> None:
    page = as_alice.get("/prompts/").content.decode()
    assert "No templates yet" in page
    assert "Keep this one" in page
    as_alice.post("/prompts/new", {"name": "Add tests", "prompt": "Find\r\nthem."})
    assert PromptTemplate.objects.visible_to(alice).get().prompt == "Find\nthem."


def test_templates_are_listed_and_edited(as_alice: Client, template: PromptTemplate) -> None:
    page = as_alice.get("/prompts/").content.decode()
    assert "Add &lt;tests&gt;" in page
    assert f"/?template={template.pk}" in page
    assert "Add them." in as_alice.get(f"/prompts/{template.pk}/").content.decode()
    assert as_alice.post(f"/prompts/{template.pk}/", {"name": "Tests", "prompt": "Other."}).status_code == 302
    template.refresh_from_db()
    assert (template.name, template.prompt) == ("Tests", "Other.")


def test_a_name_that_is_taken_asks_before_it_replaces(as_alice: Client, template: PromptTemplate) -> None:
    response = as_alice.post("/prompts/new", {"name": template.name, "prompt": "new"})
    page = response.content.decode()
    assert response.status_code == 422
    assert "already" in page
    assert "Replace the other one" in page
    assert ">new</textarea>" in "".join(page.split("\n"))
    as_alice.post("/prompts/new", {"name": template.name, "prompt": "new", "is_replacing": "1"})
    assert PromptTemplate.objects.get().prompt == "new"


def test_what_is_missing_is_said_beside_its_field(as_alice: Client) -> None:
    response = as_alice.post("/prompts/new", {"name": "", "prompt": "kept"})
    assert response.status_code == 422
    assert "Give the template a name." in response.content.decode()
    assert "kept" in response.content.decode()


def test_the_composers_prompt_is_saved_in_a_dialog(as_alice: Client) -> None:
    asked = as_alice.post("/prompts/new", {"prompt": "# Add tests\r\nto all"}, headers=HTMX).content.decode()
    assert "<html" not in asked
    assert 'value="Add tests"' in asked
    assert not PromptTemplate.objects.exists()
    saved = as_alice.post("/prompts/new", {"name": "Add tests", "prompt": "to all"}, headers=HTMX)
    assert saved.status_code == 201
    assert "template-saved" in saved["HX-Trigger"]


def test_a_template_is_removed_after_a_question(as_alice: Client, template: PromptTemplate) -> None:
    assert "Remove “Add &lt;tests&gt;”?" in as_alice.get(f"/prompts/{template.pk}/remove").content.decode()
    assert PromptTemplate.objects.exists()
    assert as_alice.post(f"/prompts/{template.pk}/remove").status_code == 302
    assert not PromptTemplate.objects.exists()


def test_the_picker_finds_by_words_of_name_and_prompt(as_alice: Client, alice: User, bob: User, template: PromptTemplate) -> None:
    save_template(by=alice, name="Upgrade", prompt="Upgrade the dependencies.")
    save_template(by=bob, name="Bob's tests", prompt="tests")

    def found(q: str) -> str:
        return as_alice.get("/pick/prompts", {"q": q}).content.decode()

    assert "Upgrade" in found("")
    assert "Bob" not in found("")
    assert "Add &lt;tests&gt;" in found("tests FIND")
    assert "Upgrade" not in found("tests find")
    assert "No template has “&lt;x&gt;”" in found("<x>")


def test_a_template_that_is_chosen_fills_the_composer(as_alice: Client, as_bob: Client, template: PromptTemplate) -> None:
    text = as_alice.get(f"/prompts/{template.pk}/text")
    assert (text.content.decode(), text["Content-Type"]) == (template.prompt, "text/plain; charset=utf-8")
    assert "Find what has no tests.\nAdd them.</textarea>" in as_alice.get(f"/?template={template.pk}").content.decode()
    assert "Find what has no tests." not in as_bob.get(f"/?template={template.pk}").content.decode()


def test_somebody_elses_template_is_not_there(as_bob: Client, template: PromptTemplate) -> None:
    for path in ("", "text", "remove"):
        assert as_bob.get(f"/prompts/{template.pk}/{path}").status_code == 404
    assert as_bob.post(f"/prompts/{template.pk}/remove").status_code == 404
    assert as_bob.post(f"/prompts/{template.pk}/", {"name": "x", "prompt": "x"}).status_code == 404
