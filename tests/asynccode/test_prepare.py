"""`manage.py prepare`: all that services need that are not started by `up`."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django import Settings

from tasks.models import User

pytestmark = pytest.mark.django_db


def test_it_makes_what_is_missing_and_then_nothing(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.STATIC_ROOT = tmp_path / "static"
    call_command("prepare")
    assert "manage.py login-link" in capsys.readouterr().out
    operator = User.objects.get()
    assert operator.is_operator
    made = (tmp_path / "static/.sources").stat().st_mtime_ns
    call_command("prepare")
    assert User.objects.get() == operator
    assert (tmp_path / "static/.sources").stat().st_mtime_ns == made


def test_where_no_run_could_start_it_says_so(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.STATIC_ROOT = tmp_path / "static"
    settings.LOCAL_SANDBOXES, settings.E2B_API_KEY, settings.SANDBOX_BACKEND = False, "", "e2b"
    call_command("prepare")
    assert "Runs cannot start: no sandbox can be made on this machine" in capsys.readouterr().err


def test_what_does_not_answer_is_said_in_a_sentence(settings: Settings, tmp_path: Path) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    with pytest.raises(CommandError, match=r"Redis \(REDIS_URL\) cannot be used"):
        call_command("prepare")
