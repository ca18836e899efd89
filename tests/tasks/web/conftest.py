"""Clients of people who are signed in, and agents that do not exist yet."""

from __future__ import annotations

import pytest
from django.test import Client

from agents.adapters.base import Model
from agents.adapters.shell import ShellAdapter
from agents.registry import ADAPTERS
from tasks.models import User
from tests.tasks.review.conftest import workshop as workshop


@pytest.fixture
def as_alice(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def as_bob(bob: User) -> Client:
    client = Client()
    client.force_login(bob)
    return client


class Claude(ShellAdapter):
    name, label, description = "claude", "Claude Code", "Reads, plans and writes code."
    models = (Model("opus", "opus"), Model("sonnet", "sonnet"))
    modes = ("code", "plan", "ask")


class Codex(ShellAdapter):
    name, label, description = "codex", "Codex", "Writes code and answers."
    models = (Model("high", "high"),)
    modes = ("code", "ask")


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six agents, two of them with models and with more modes than one."""
    others = [type(f"Agent{n}", (ShellAdapter,), {"name": f"agent{n}", "label": f"Agent {n}"})() for n in range(3)]
    for name in list(ADAPTERS):
        monkeypatch.delitem(ADAPTERS, name)
    for adapter in (ShellAdapter(), Claude(), Codex(), *others):
        monkeypatch.setitem(ADAPTERS, adapter.name, adapter)
