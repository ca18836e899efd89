"""What cron does besides runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.utils import timezone

from tasks.running import jobs

pytestmark = pytest.mark.django_db


def test_expired_sessions_are_deleted_and_others_stay() -> None:
    old, new = SessionStore(), SessionStore()
    old.create()
    new.create()
    Session.objects.filter(pk=old.session_key).update(expire_date=timezone.now() - timedelta(seconds=1))
    jobs.forget_sessions()
    assert list(Session.objects.values_list("pk", flat=True)) == [new.session_key]
