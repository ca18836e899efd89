"""What the broker and whoever has the database tell each other about one request to a model API."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Key:
    """A key of a model provider and where it is good ("" for the provider's own address): one thing, never mixed with another's.

    `source`: you, site or environment. `is_subscription`: a long-lived token of a subscription of Claude.
    """

    provider: str
    secret: str = field(repr=False)
    base_url: str = ""
    is_subscription: bool = False
    source: str = ""


@dataclass(frozen=True)
class Grant:
    """A request may go out, with this key and at the expense of this turn."""

    turn_id: int
    run_id: int
    user_id: int
    key: Key


@dataclass(frozen=True)
class Refusal:
    """It may not. `status` is HTTP's; the agents show the sentence, which begins with "asynccode: "."""

    status: int
    sentence: str


@dataclass(frozen=True)
class Call:
    """A request that was made. `model` is the one that answered, else the one that was `asked` for.

    Tokens of input include those that were read from the provider's cache and those that were written into it; those of
    output include the reasoning. `is_whole` is false when the answer was cut, so that there may have been more of them; what it
    had not told by then is a guess. `refused` is the class (an ErrorClass) of an error that the provider answered with.
    """

    model: str
    asked: str
    status: int
    is_whole: bool
    seconds: float
    refused: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
