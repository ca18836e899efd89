"""The page on which people read what the API can be asked."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks.models import User
from tests.tasks.api.conftest import Program

pytestmark = pytest.mark.django_db


def test_every_operation_is_on_the_page(client: Client, alice: User) -> None:
    client.force_login(alice)
    with CaptureQueriesContext(connection) as asked:
        response = client.get("/api/v1/docs")
    page = response.content.decode()
    raw = Program("").get("/openapi.json").body
    operations = [operation for methods in raw["paths"].values() for operation in methods.values()]
    assert len(operations) > 50
    assert all(f'id="{operation["operationId"]}"' in page for operation in operations)
    assert all(f'id="shape-{name}"' in page for name in ("Run", "WholeTask", "AgentChoice", "PatchFile", "Problem"))
    assert "<script>" not in page.partition("<main")[2]
    assert len(asked) <= 6


def test_the_page_is_for_those_who_are_signed_in_and_the_description_for_everybody(client: Client) -> None:
    assert client.get("/api/v1/docs").headers["Location"] == "/sign-in/?next=/api/v1/docs"
    assert client.get("/api/v1/openapi.json").status_code == 200
