"""The verbs of prompt templates: prompts that a user keeps under a name."""

from __future__ import annotations

from django.db import transaction

from tasks.choices import MOST_PROMPT
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import PromptTemplate, User

MOST_TEMPLATES = 200  # of a user
MOST_NAME = 100  # characters


class NameTaken(Conflict):
    """Another template of the user has this name; it is replaced only when that is what the user wants."""

    code = "name_taken"
    field = "name"


def save_template(
    *, by: User, name: str, prompt: str, template: PromptTemplate | None = None, is_replacing: bool = False
) -> PromptTemplate:
    """Keep a prompt under a name, as a new template or as what `template` is from now on.

    NameTaken when another one has the name, unless `is_replacing`: then that one's prompt is replaced (and `template` goes).
    """
    if template is not None and template.owner_id != by.pk:
        raise NotAllowed("This template belongs to somebody else.")
    name = " ".join(name.split())
    _validate(name, prompt)
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=by.pk)  # one at a time, so that counts and names hold
        mine = PromptTemplate.objects.visible_to(by)
        namesake = mine.filter(name=name).first()
        if namesake == template:
            namesake = None
        if namesake is not None and not is_replacing:
            raise NameTaken(f"You have a template named “{name}” already. Replace it, or choose another name.")
        if template is None and namesake is None and mine.count() >= MOST_TEMPLATES:
            raise Conflict(f"You have {MOST_TEMPLATES} templates, as many as there may be. Remove one first.")
        if namesake is not None and template is not None:
            template.delete()
        saved = namesake or template or PromptTemplate(owner=by)
        saved.name, saved.prompt = name, prompt
        saved.save()
    return saved


def remove_template(*, by: User, template: PromptTemplate) -> None:
    if template.owner_id != by.pk:
        raise NotAllowed("This template belongs to somebody else.")
    template.delete()


def _validate(name: str, prompt: str) -> None:
    if not name:
        raise InvalidInput("Give the template a name.", field="name")
    if len(name) > MOST_NAME:
        raise InvalidInput(f"The name has {len(name)} characters; {MOST_NAME} are the most.", field="name")
    if "\0" in name:
        raise InvalidInput("There is a NUL character in the name.", field="name")
    if not prompt.strip():
        raise InvalidInput("The prompt is empty. Write what you begin with again and again.", field="prompt")
    if len(prompt) > MOST_PROMPT:
        raise InvalidInput(f"The prompt has {len(prompt):,} characters; {MOST_PROMPT:,} are the most.", field="prompt")
    if "\0" in prompt:
        raise InvalidInput("There is a NUL character in the prompt.", field="prompt")
