"""What went wrong, from what was said: error classes, and for each a sentence that says what to do.

The patterns were collected from what the agents of `tests/agents/golden` print and from the error bodies of the three model APIs.
"""

from __future__ import annotations

import json
import re

from agents.adapters.base import AgentEvent, Ending, ErrorClass, Outcome, ParseState

SAID_MAX = 300  # characters of what was said that are shown again

_ADVICE = {
    ErrorClass.AUTH: "The key for {label} is missing or was refused. Check it under Settings → Keys, then retry.",
    ErrorClass.CREDIT: "The credit of the account behind the key, or a budget, is used up. Add credit or raise the budget, then retry.",
    ErrorClass.RATE_LIMIT: "The model API asks for fewer requests. It is tried again by itself; if that is not enough, retry later.",
    ErrorClass.OVERLOADED: "The model API could not be reached or is overloaded. It is tried again by itself; if that fails, retry later.",
    ErrorClass.MODEL: "The model API does not offer this model to this key. Choose another model for {label}.",
    ErrorClass.CONTEXT: "The conversation does not fit into the model any more. Start a new task, or one with a larger model.",
    ErrorClass.HUNG: "{label} did not come to an end. Retry; if that happens again, ask for less at once.",
    ErrorClass.CRASHED: "{label} ended before its work was done. Its last lines are in the log; retry, or send a follow-up.",
    ErrorClass.KILLED: "{label} was stopped before its work was done. Send a follow-up to go on.",
}

# What our own broker says (agents/broker.py), whatever status an agent makes of it.
_OURS = {"asynccode: the budget": ErrorClass.CREDIT, "asynccode: there is no key": ErrorClass.AUTH}

# In this order: what says more about the cause comes first (a used-up credit is answered with 429 by some, with 400 by others).
_SAYINGS = [
    (cls, re.compile(pattern, re.IGNORECASE))
    for cls, pattern in (
        (ErrorClass.RATE_LIMIT, r"retry in \d|try again in \d|per[ _]?(minute|second|day)\b"),
        (
            ErrorClass.CREDIT,
            r"credit balance|insufficient[ _](quota|credit|balance|funds)|billing|payment required|quota exceeded"
            r"|exceeded your current quota|out of credits|budget_exceeded|max_budget",
        ),
        (
            ErrorClass.CONTEXT,
            r"context[ _-]?(length|window|limit)|prompt is too long|input is too long|maximum context|request_too_large|input token count"
            r"|exceeds the (maximum|limit).{0,40}tokens|too many tokens",
        ),
        (ErrorClass.OVERLOADED, r"overloaded|at capacity|high demand"),
        (ErrorClass.RATE_LIMIT, r"rate[ _-]?limit|too many requests|resource[ _]exhausted|usage limit|hit your limit"),
        (
            ErrorClass.MODEL,
            r"models?\b.{0,120}(not found|does not exist|not exist|not supported|not available|unavailable|no access|not have access"
            r"|is invalid|is unknown|no longer)|model_not_found|(unknown|invalid|unsupported|no such) model",
        ),
        (
            ErrorClass.AUTH,
            r"authenticat|unauthori[sz]ed|api[ _-]?key|credentials|oauth token|token (has )?expired|permission[ _](denied|error)|forbidden"
            r"|not logged in|log ?in\b|missing environment variable",
        ),
    )
]
_UNREACHED = re.compile(
    r"econn(refused|reset|aborted)|etimedout|enotfound|epipe|eai_again"
    r"|connection (failed|refused|reset|error|closed|was closed|aborted|lost)|unable to connect|could not connect|cannot connect"
    r"|disconnected|socket hang up|fetch failed|error sending request|stream closed"
    r"|premature(ly)? close|terminated|network|timed? ?out|unavailable|bad gateway|internal server error|incomplete|stream ended",
    re.IGNORECASE,
)
_WRAPPED = re.compile(r"^\[API Error: (.*)\]", re.DOTALL)
_STATUS = re.compile(r"(?:status|code|error|http|answered)\W{0,4}([45]\d\d)\b", re.IGNORECASE)
_STATUSES = {
    401: ErrorClass.AUTH,
    402: ErrorClass.CREDIT,
    403: ErrorClass.AUTH,
    404: ErrorClass.MODEL,
    408: ErrorClass.OVERLOADED,
    413: ErrorClass.CONTEXT,
    429: ErrorClass.RATE_LIMIT,
}


def classify(text: str, status: int | None = None) -> ErrorClass | None:
    """The class of an error by its text and, if known, the HTTP status of the model API; None if neither says enough."""
    text = text[:4000]
    ours = next((cls for words, cls in _OURS.items() if words in text), None)
    if ours:
        return ours
    if status is None and (found := _STATUS.search(text)):
        status = int(found[1])
    if status is not None and 500 <= status < 600:
        return ErrorClass.OVERLOADED
    for cls, pattern in _SAYINGS:
        if pattern.search(text):
            return cls
    return _STATUSES.get(status or 0) or (ErrorClass.OVERLOADED if _UNREACHED.search(text) else None)


def words(said: str) -> str:
    """What the model API said, without what programs wrap around it: Gemini's brackets and JSON, Codex's URL of our bridge."""
    said = re.sub(r", url: http://127\.0\.0\.1:\S*", "", said)
    found = _WRAPPED.search(said)
    if found is None:
        return said
    try:
        body = json.loads(found[1])
    except (ValueError, RecursionError):
        return found[1]
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) and message else found[1]


def advice(error_class: ErrorClass, label: str) -> str:
    """What to do about it, in a sentence or two."""
    return _ADVICE[error_class].format(label=label)


def outcome(error_class: ErrorClass, label: str, said: str) -> Outcome:
    """A turn that failed: what was said, and what to do about it."""
    said = shortened(said)
    return Outcome(False, error_class, f"{said} {advice(error_class, label)}" if said else advice(error_class, label))


def event(error_class: ErrorClass, label: str, said: str) -> AgentEvent:
    return AgentEvent("error", {"text": said[:4000], "class": error_class.value, "advice": advice(error_class, label)})


def shortened(said: str) -> str:
    """One line of at most SAID_MAX characters that ends like a sentence."""
    said = " ".join(said.split())
    if len(said) > SAID_MAX:
        return said[: SAID_MAX - 1] + "…"
    return said if not said or said.endswith((".", "!", "?", "…")) else said + "."


# What a parser remembers for the end of its turn


def failed(state: ParseState, error_class: ErrorClass, said: str) -> None:
    """The agent said that its work failed."""
    state["verdict"] = {"class": error_class.value, "said": shortened(said)}


def succeeded(state: ParseState) -> None:
    """The agent said that its work is done."""
    state["verdict"] = {}


def goes_on(state: ParseState) -> None:
    """The agent is at work again after its last verdict."""
    state.pop("verdict", None)


def ended(label: str, ending: Ending, state: ParseState, otherwise: Outcome) -> Outcome:
    """What became of a turn whose agent says by itself how it went: its word counts more than its exit code, and without its word
    nothing is good. `otherwise` is what base.Adapter makes of the ending, for agents that were stopped."""
    verdict = state.get("verdict")
    if ending.reason not in ("exit", "finished"):
        return otherwise
    if isinstance(verdict, dict):
        return outcome(ErrorClass(verdict["class"]), label, str(verdict["said"])) if verdict else Outcome(True)
    last = str(state.get("stderr", ""))
    if ending.signal is not None:
        return outcome(ErrorClass.KILLED, label, f"Signal {ending.signal} ended it.")
    code = f" (exit code {ending.code})" if ending.code else ""
    return outcome(classify(last) or ErrorClass.CRASHED, label, f"{shortened(last)} It left without a result{code}.".strip())
