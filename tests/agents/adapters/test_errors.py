"""Error classes, from what agents and model APIs were seen to say, and what became of a turn by its ending."""

from __future__ import annotations

import pytest

from agents.adapters import errors
from agents.adapters.base import Ending, ErrorClass, Outcome

STOPPED = Outcome(False, ErrorClass.KILLED, "stopped")


@pytest.mark.parametrize(
    ("said", "status", "error_class"),
    [
        ("asynccode: the budget of this run ($2.00) is used up", 403, "credit"),
        ("API Error: 503 asynccode: the budget of this month is used up", None, "credit"),
        ("asynccode: there is no key for Anthropic", 401, "auth"),
        ("Invalid API key · Fix external API key", 401, "auth"),
        ("unexpected status 401 Unauthorized: Incorrect API key provided", None, "auth"),
        ("Missing environment variable: `MOCK_KEY`.", None, "auth"),
        ('[API Error: {"error":{"code":401,"status":"UNAUTHENTICATED","message":"API key not valid"}}]', None, "auth"),
        ("Credit balance is too low", 400, "credit"),
        ("Quota exceeded. Check your plan and billing details.", None, "credit"),
        ("insufficient_quota", 429, "credit"),
        ("exceeded retry limit, last status: 429 Too Many Requests", None, "rate_limit"),
        ("You exceeded your current quota. Please retry in 20s.", 429, "rate_limit"),
        ("This request would exceed the rate limit for your organization.", 429, "rate_limit"),
        ("something odd", 429, "rate_limit"),
        ("Overloaded", 529, "overloaded"),
        ("Selected model is at capacity. Please try a different model.", None, "overloaded"),
        ("unexpected status 503 Service Unavailable: Overloaded", None, "overloaded"),
        ("something odd", 502, "overloaded"),
        ("something odd", 504, "overloaded"),
        ("API Error: Unable to connect to API (ECONNREFUSED)", None, "overloaded"),
        ("stream disconnected before completion: stream closed before response.completed", None, "overloaded"),
        ("Reconnecting... waiting for network (Connection failed: error sending request)", None, "overloaded"),
        ("terminated", None, "overloaded"),
        ("The model `gpt-5-codex` does not exist", None, "model"),
        ("[API Error: model not found]", None, "model"),
        ("There's an issue with the selected model (x). It may not exist or you may not have access to it.", None, "model"),
        ("Prompt is too long · the request is ~210000 tokens (limit 200000)", 400, "context"),
        ("Codex ran out of room in the model's context window.", None, "context"),
        ("The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).", 400, "context"),
        ("Segmentation fault", None, None),
        ("", None, None),
    ],
)
def test_what_was_said_has_a_class(said, status, error_class):
    assert errors.classify(said, status) == error_class


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_each_class_says_what_to_do(error_class):
    outcome = errors.outcome(error_class, "Codex", "word " * 200)

    assert not outcome.is_ok
    assert outcome.error_class == error_class
    assert len(outcome.message.split("…")[0]) < 300
    assert outcome.message.endswith(errors.advice(error_class, "Codex"))


def test_a_message_is_shown_without_what_programs_wrap_around_it():
    assert errors.words('[API Error: {"error":{"code":401,"message":"API key not valid"}}]') == "API key not valid"
    assert errors.words("[API Error: model not found]") == "model not found"
    assert errors.words("unexpected status 503, url: http://127.0.0.1:3128/openai/v1/responses") == "unexpected status 503"


def test_the_agents_word_counts_more_than_its_exit_code():
    good, bad = {}, {}
    errors.succeeded(good)
    errors.failed(bad, ErrorClass.AUTH, "No.")

    assert errors.ended("Codex", Ending("exit", 1), good, STOPPED).is_ok
    assert errors.ended("Codex", Ending("finished", None), good, STOPPED).is_ok
    assert errors.ended("Codex", Ending("exit", 0), bad, STOPPED).error_class == "auth"
    assert errors.ended("Codex", Ending("finished", None), bad, STOPPED).message.startswith("No. ")


def test_without_its_word_nothing_is_good():
    crashed = errors.ended("Codex", Ending("exit", 2), {"stderr": "thread panicked"}, STOPPED)

    assert (crashed.is_ok, crashed.error_class) == (False, "crashed")
    assert crashed.message.startswith("thread panicked. It left without a result (exit code 2). ")
    assert errors.ended("Codex", Ending("exit", 0), {}, STOPPED).error_class == "crashed"
    assert errors.ended("Codex", Ending("exit", -9, 9), {}, STOPPED).error_class == "killed"
    assert errors.ended("Codex", Ending("silence", None), {"verdict": {}}, STOPPED) is STOPPED


def test_a_verdict_is_taken_back_by_work_that_follows():
    state = {}
    errors.succeeded(state)
    errors.goes_on(state)

    assert not errors.ended("Claude Code", Ending("exit", 0), state, STOPPED).is_ok
