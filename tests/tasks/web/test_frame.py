"""The frame of every page: its theme, what it counts, and the messages that can be taken back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.messages import constants
from django.contrib.messages.storage.base import Message
from django.template.loader import render_to_string
from django.test import Client

from tasks.models import Run, User

pytestmark = pytest.mark.django_db


def test_a_stranger_gets_what_the_system_has(client: Client) -> None:
    page = client.get("/sign-in/").content.decode()
    assert 'data-theme="system"' in page
    assert '<meta name="color-scheme" content="light dark">' in page
    assert 'content="#131316" media="(prefers-color-scheme: dark)"' in page
    assert "notify.js" not in page


def test_a_chosen_theme_is_there_from_the_first_byte(as_alice: Client) -> None:
    User.objects.update(theme="dark")
    page = as_alice.get("/repos/").content.decode()
    assert 'data-theme="dark"' in page
    assert '<meta name="color-scheme" content="dark"><meta name="theme-color" content="#131316">' in page


def test_the_bar_counts_ones_own_runs(as_alice: Client, bob: User, make_run: Callable[..., Run]) -> None:
    make_run(status="running")
    make_run(status="running", owner=bob)
    bar = as_alice.get("/repos/").content.decode().partition("</header>")[0]
    assert '<b>1</b> <span class="word">running</span>' in bar
    assert '<b>0</b> <span class="word">queued</span>' in bar


@pytest.mark.parametrize("tags", ["", "other", "undo:https://evil.example/"])
def test_only_what_can_be_taken_back_has_a_button(tags: str) -> None:
    def shown(extra: str) -> str:
        return render_to_string("messages.html", {"messages": [Message(constants.SUCCESS, "<b>Archived</b>", extra)]})

    assert "Undo" not in shown(tags)
    undo = shown("undo:/tasks/restore?task=1&task=2")
    assert '<form action="/tasks/restore?task=1&amp;task=2" method="post">' in undo
    assert "&lt;b&gt;Archived" in undo
