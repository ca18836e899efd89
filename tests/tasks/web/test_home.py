"""The composer and the list of tasks."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db
HOME = "/"


def test_nobody_sees_it_without_signing_in(client: Client) -> None:
    response = client.get(HOME)
    assert (response.status_code, response.headers["Location"]) == (302, f"{reverse('sign-in')}?next=/")


def test_the_empty_page_says_what_to_do(as_alice: Client) -> None:
    assert "No tasks yet" in as_alice.get(HOME).content.decode()


def test_every_page_forbids_scripts_and_styles_within_it(as_alice: Client) -> None:
    response = as_alice.get(HOME)
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    page = response.content.decode()
    assert " style=" not in page
    assert "<style" not in page
    assert " onclick" not in page
