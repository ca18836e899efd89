"""Secrets do not get into events, patches that hold them are found."""

from __future__ import annotations

import base64

from tasks.running.redact import MARK, Redactor

SECRET = "s3cret-value"


def test_every_string_in_json_is_redacted() -> None:
    data = {"a": [f"x {SECRET}", 1, None], SECRET: {"b": SECRET}}
    assert Redactor({"T": SECRET}).data(data) == {"a": [f"x {MARK}", 1, None], MARK: {"b": MARK}}


def test_base64_of_a_secret_is_redacted() -> None:
    encoded = base64.b64encode(SECRET.encode()).decode()
    assert SECRET not in Redactor({"T": SECRET}).text(f"Basic {encoded}")
    assert MARK in Redactor({"T": SECRET}).text(f"Basic {encoded}")


def test_short_values_are_left_alone() -> None:
    assert Redactor({"T": "on"}).text("on and on") == "on and on"


def test_no_secrets_no_work() -> None:
    data = {"a": "b"}
    assert Redactor({}).data(data) is data


def test_secrets_in_patches_are_named() -> None:
    redactor = Redactor({"TOKEN": SECRET, "OTHER": "not in there"})
    assert redactor.found_in(b"+key = " + SECRET.encode()) == ["TOKEN"]
