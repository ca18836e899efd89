"""Prompt templates: one name once, replaced only on purpose, never anybody else's."""

from __future__ import annotations

import pytest

from tasks import prompt_templates
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import PromptTemplate, User
from tasks.prompt_templates import NameTaken, remove_template, save_template

pytestmark = pytest.mark.django_db


def test_a_prompt_is_kept_under_a_name(alice: User) -> None:
    saved = save_template(by=alice, name="  Add \n tests ", prompt="Add tests.\n  Run them.\n")
    assert (saved.name, saved.prompt) == ("Add tests", "Add tests.\n  Run them.\n")


def test_a_name_that_is_taken_is_replaced_on_purpose_only(alice: User, bob: User) -> None:
    first = save_template(by=alice, name="tests", prompt="one")
    with pytest.raises(NameTaken, match="“tests” already"):
        save_template(by=alice, name="tests", prompt="two")
    assert save_template(by=alice, name="tests", prompt="two", is_replacing=True) == first
    assert save_template(by=bob, name="tests", prompt="three") != first
    assert PromptTemplate.objects.visible_to(alice).get().prompt == "two"


def test_a_template_is_changed_and_renamed(alice: User) -> None:
    one, two = save_template(by=alice, name="one", prompt="1"), save_template(by=alice, name="two", prompt="2")
    assert save_template(by=alice, name="one", prompt="1b", template=one) == one
    with pytest.raises(NameTaken):
        save_template(by=alice, name="two", prompt="1c", template=one)
    assert save_template(by=alice, name="two", prompt="1c", template=one, is_replacing=True) == two
    assert [(found.name, found.prompt) for found in PromptTemplate.objects.all()] == [("two", "1c")]


@pytest.mark.parametrize(
    ("name", "prompt", "field"),
    [
        (" ", "p", "name"),
        ("n" * 101, "p", "name"),
        ("a\0b", "p", "name"),
        ("n", " \n", "prompt"),
        ("n", "p" * 200_001, "prompt"),
        ("n", "a\0b", "prompt"),
    ],
)
def test_what_cannot_be_kept_says_why(alice: User, name: str, prompt: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        save_template(by=alice, name=name, prompt=prompt)
    assert caught.value.field == field


def test_a_user_has_a_bounded_number(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_templates, "MOST_TEMPLATES", 1)
    first = save_template(by=alice, name="one", prompt="1")
    with pytest.raises(Conflict, match="Remove one first"):
        save_template(by=alice, name="two", prompt="2")
    save_template(by=alice, name="two", prompt="2", template=first)


def test_somebody_elses_template_is_left_alone(alice: User, bob: User) -> None:
    template = save_template(by=alice, name="one", prompt="1")
    with pytest.raises(NotAllowed):
        save_template(by=bob, name="one", prompt="2", template=template)
    with pytest.raises(NotAllowed):
        remove_template(by=bob, template=template)
    remove_template(by=alice, template=template)
    assert not PromptTemplate.objects.exists()
