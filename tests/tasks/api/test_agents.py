"""Agents by the API."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from tasks.models import AgentModel, AgentSetting
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db


def test_agents_tell_whether_they_can_be_used(alices: Program, settings: Settings) -> None:
    settings.OPENAI_API_KEY = ""
    AgentModel.objects.create(agent="claude", name="sonnet", label="Sonnet")
    AgentSetting.objects.create(agent="gemini", is_on=False)
    agents = {agent["name"]: agent for agent in alices.get("/agents").body["items"]}
    assert agents["shell"]["is_usable"]
    assert agents["shell"]["modes"] == ["code"]
    assert not agents["codex"]["is_usable"]
    assert "needs a key" in agents["codex"]["why_not"]
    assert agents["claude"]["models"] == [{"name": "sonnet", "label": "Sonnet"}]
    assert "gemini" not in agents
