"""The administration's page of the E2B template: which one is used, how the newest build is, and beginning one."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from agents.packages import PACKAGES
from tasks.models import Operation, OperationStatus, User
from tasks.running import templates

pytestmark = pytest.mark.django_db
PAGE = "/admin/tasks/operation/e2b-template/"
SIZE = {"cpu": "2", "memory_mb": "2048"}


@pytest.fixture(autouse=True)
def _account(settings: Any) -> None:
    settings.E2B_API_KEY, settings.E2B_TEMPLATE = "e2b_secret_key", ""


@pytest.fixture
def operator(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def page(client: Client) -> str:
    response = client.get(PAGE)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def build(status: OperationStatus, what: templates.Wanted | None = None, **fields: Any) -> Operation:
    finished_at = timezone.now() if status == OperationStatus.SUCCEEDED else None
    what = what or templates.wanted()
    return Operation.objects.create(kind=templates.KIND, subject=what.subject, status=status, finished_at=finished_at, **fields)


def test_it_is_for_operators_only(bob: User) -> None:
    client = Client()
    assert client.get(PAGE).status_code == 302
    client.force_login(bob)
    assert client.post(PAGE, SIZE).status_code == 302
    assert not Operation.objects.exists()


def test_it_is_found_from_the_first_page(operator: Client) -> None:
    assert f'href="{PAGE}"' in operator.get("/admin/").content.decode()


def test_before_one_is_built_it_says_what_is_used_instead(operator: Client) -> None:
    said = page(operator)
    assert "None was built yet." in said
    assert "Claude Code: <code>claude</code>" in said
    assert f"claude {PACKAGES['claude'].version}" in said
    assert "e2b_secret_key" not in said


def test_a_build_is_begun_for_the_size_asked_for_and_once(operator: Client) -> None:
    for _ in range(2):
        assert operator.post(PAGE, {"cpu": "4", "memory_mb": "4096"}).status_code == 302
    assert Operation.objects.get().subject == templates.wanted(cpu=4, memory_mb=4096).subject
    said = page(operator)
    assert "0 % of <code>asynccode-" in said
    assert 'value="Build"' not in said


@pytest.mark.parametrize("wrong", [{"cpu": "0"}, {"memory_mb": "2047"}, {"memory_mb": "much"}, {"cpu": ""}])
def test_a_size_that_no_sandbox_has_is_refused(operator: Client, wrong: dict[str, str]) -> None:
    assert operator.post(PAGE, SIZE | wrong).status_code == 422
    assert not Operation.objects.exists()


def test_while_it_is_built_the_page_follows(operator: Client) -> None:
    build(OperationStatus.RUNNING, percent=42, progress="[5/12] RUN npm install", log="[4/12] RUN <script>\n[5/12] RUN npm install\n")
    said = page(operator)
    assert operator.get(PAGE)["Refresh"] == "3"
    assert "42 % of" in said
    assert "[5/12] RUN npm install" in said
    assert "RUN <script>" not in said


def test_once_it_is_built_it_says_when_and_with_what(operator: Client) -> None:
    build(OperationStatus.SUCCEEDED, log="Template is ready\n")
    said = page(operator)
    assert f"E2B sandboxes are made from <code>{templates.wanted().name}</code>" in said
    assert "for 2 processors and 2048 MB, with the agents’ present versions." in said
    assert "Template is ready" in said
    assert "Refresh" not in operator.get(PAGE)


def test_one_with_older_versions_says_so(operator: Client) -> None:
    build(OperationStatus.SUCCEEDED, templates.Wanted("asynccode-0123456789", "0123456789", 2, 2048))
    assert "with older versions of the agents. Build it for the present ones." in page(operator)


def test_a_failure_is_shown_with_its_log(operator: Client) -> None:
    build(OperationStatus.FAILED, error="The template could not be built: <b>", log="npm error code EINTEGRITY\n")
    said = page(operator)
    assert "The template could not be built: &lt;b&gt;" in said
    assert "npm error code EINTEGRITY" in said
    assert 'value="Build"' in said


def test_without_an_account_nothing_can_be_built(operator: Client, settings: Any) -> None:
    settings.E2B_API_KEY = ""
    assert "E2B_API_KEY is not set" in page(operator)
    assert operator.post(PAGE, SIZE).status_code == 422
    assert not Operation.objects.exists()


def test_the_setting_is_named(operator: Client, settings: Any) -> None:
    settings.E2B_TEMPLATE = "team/ours"
    assert "<code>team/ours</code>, which E2B_TEMPLATE says" in page(operator)
