"""Presets of the composer: choices of agents under a name."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.test import Client

from tasks import presets
from tasks.choices import AgentChoice
from tasks.errors import Conflict
from tasks.models import AgentModel, AgentSetting, Preset, Repo, Task, User

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("agents")]
CHOSEN = {"runs-claude:opus": "2", "runs-shell": "1", "prompt": "Do it"}


@pytest.fixture
def preset(alice: User) -> Preset:
    choices = [
        {"agent": "claude", "model": "sonnet", "attempts": 3, "options": {}},
        {"agent": "retired", "model": "", "attempts": 1, "options": {}},
    ]
    return Preset.objects.create(owner=alice, name="Three sonnets", choices=choices)


def test_the_chosen_agents_are_kept_under_a_name_and_nothing_typed_is_lost(as_alice: Client, make_task: Callable[..., Task]) -> None:
    repo: Repo = make_task().repo
    response = as_alice.post("/presets/save", CHOSEN | {"preset_name": " Opus  and shell ", "repo": str(repo.pk), "branch": "dev"})
    saved = Preset.objects.get()
    assert saved.name == "Opus and shell"
    assert [(c["agent"], c["model"], c["attempts"]) for c in saved.choices] == [("shell", "", 1), ("claude", "opus", 2)]
    form = response.context["form"]
    assert (form["prompt"].value(), form["branch"].value(), form.chosen_repo, form.runs) == ("Do it", "dev", repo, 3)
    assert not form.errors


def test_a_name_that_is_there_is_replaced(as_alice: Client, preset: Preset) -> None:
    as_alice.post("/presets/save", CHOSEN | {"preset_name": preset.name})
    assert len(Preset.objects.get().choices) == 2


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"preset_name": "x"}, "Choose at least one agent first"),
        (CHOSEN | {"preset_name": ""}, "Give the preset a name"),
        (CHOSEN | {"preset_name": "x" * 101}, "100 are the most"),
        ({"runs-shell": "99", "preset_name": "x"}, "20 are the most"),
    ],
)
def test_what_cannot_be_kept_is_said(as_alice: Client, sent: dict[str, str], said: str) -> None:
    response = as_alice.post("/presets/save", sent)
    assert response.status_code == 422
    assert said in response.content.decode()
    assert not Preset.objects.exists()


def test_there_may_be_so_many(alice: User) -> None:
    Preset.objects.bulk_create(Preset(owner=alice, name=str(n)) for n in range(presets.MOST_PRESETS))
    with pytest.raises(Conflict):
        presets.save_preset(by=alice, name="one more", agents=[AgentChoice("shell")])
    presets.save_preset(by=alice, name="7", agents=[AgentChoice("shell")])


def test_a_preset_is_what_the_composer_begins_with(as_alice: Client, preset: Preset) -> None:
    form = as_alice.get(f"/?preset={preset.pk}").context["form"]
    assert {row.label: row.runs for row in form.rows if row.runs} == {"Claude Code sonnet": 3}


def test_a_preset_sets_every_field_of_the_agents_and_names_what_is_gone(as_alice: Client, preset: Preset) -> None:
    [shown] = as_alice.get("/").context["form"].presets
    fields = json.loads(shown.fields)
    assert fields["runs-claude:sonnet"] == 3
    assert fields["runs-shell"] == 0
    assert shown.summary == "Claude Code sonnet ×3 + retired"


def test_a_removed_preset_is_gone_and_the_composer_stays_as_it_was(as_alice: Client, preset: Preset) -> None:
    response = as_alice.post(f"/presets/{preset.pk}/remove", CHOSEN)
    assert not Preset.objects.exists()
    assert response.context["form"]["prompt"].value() == "Do it"


def test_in_place_only_the_list_comes_back(as_alice: Client, preset: Preset) -> None:
    response = as_alice.post(f"/presets/{preset.pk}/remove", headers={"HX-Request": "true"})
    assert "No presets yet" in response.content.decode()
    assert "<html" not in response.content.decode()


def test_presets_of_others_are_not_there(as_bob: Client, preset: Preset) -> None:
    assert as_bob.post(f"/presets/{preset.pk}/remove").status_code == 404
    assert as_bob.get("/").context["form"].presets == []
    assert as_bob.get(f"/?preset={preset.pk}").context["form"].runs == 1


def test_operators_say_which_agents_and_models_there_are(as_alice: Client) -> None:
    AgentSetting.objects.create(agent="codex", is_on=False)
    AgentModel.objects.create(agent="claude", name="haiku", label="Haiku")
    labels = [row.label for row in as_alice.get("/").context["form"].rows]
    assert "Claude Code Haiku" in labels
    assert "Claude Code opus" not in labels
    assert not any("Codex" in label for label in labels)
