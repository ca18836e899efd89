"""Clients of people who are signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import Client

from tasks.models import User


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


@pytest.fixture
async def closed_connections() -> AsyncIterator[None]:
    """The thread in which asynchronous code uses the database leaves no connection open."""
    yield
    await sync_to_async(connections.close_all)()
