"""What the agents with an output format of their own have in common: JSON lines on standard output, typed by nobody.

A line is taken apart with the getters below, which give something of the right type whatever is there.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from agents.adapters import errors
from agents.adapters.base import Adapter, AgentEvent, Ending, McpServer, Outcome, ParseState

HOME = "/home/agent"  # as the sandbox has it
FILES = f"{HOME}/.asynccode"  # where files of ours lie in a sandbox
WORKSPACE = "/workspace/"

OPEN_MAX = 100  # of what a parser remembers of messages, agents or tool calls at once
TITLE_MAX = 120
DEPTH_MAX = 60  # of JSON; what is nested deeper comes from no agent
COUNT_MAX = 10**12


class NativeAdapter(Adapter):
    def parse(self, line: str, state: ParseState, *, stream: str = "stdout") -> Iterator[AgentEvent]:
        if stream == "stdout" and (said := decoded(line)) is not None:
            yield from self.read(said, state)
            return
        if stream == "stderr" and line.strip():
            state["stderr"] = storable(line.strip()[: errors.SAID_MAX])
        yield log(line, stream)

    @abstractmethod
    def read(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        """Events of one message of the agent, whose members may be missing or of any type."""

    def outcome(self, ending: Ending, state: ParseState) -> Outcome:
        return errors.ended(self.label, ending, state, super().outcome(ending, state))

    def answers(self, text: str, state: ParseState) -> None:
        if text.strip():
            state["answer"] = storable(text)

    def hides(self, call: str, state: ParseState) -> None:
        """A tool call that is shown as something else, so its result is not shown either."""
        state["hidden"] = [*state.get("hidden", [])[-OPEN_MAX:], storable(call)]

    def is_hidden(self, call: str, state: ParseState) -> bool:
        return storable(call) in state.get("hidden", [])

    def converses(self, conversation: str, state: ParseState) -> None:
        if conversation:
            state["conversation"] = storable(conversation[:200])


def decoded(line: str) -> dict[str, Any] | None:
    """The JSON object of a line; None if it holds none that can be stored as JSON again."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not _is_deep(value) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [child for each in level if isinstance(each, dict | list) for child in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return False
    return True


# Getters: what is there if it is of that type, else nothing of that type


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[dict[str, Any]]:
    return [each for each in items(value) if isinstance(each, dict)]


def count(value: Any) -> int:
    return min(int(value), COUNT_MAX) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0


def number(value: Any) -> int | None:
    """An exit code, a line number: small and whole."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31 else None


def money(value: Any) -> float | None:
    return float(min(value, 10**6)) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def todo(content: Any, status: Any) -> dict[str, str]:
    """An entry of a plan."""
    known = ("pending", "in_progress", "completed")
    return {"content": text(content), "status": status if isinstance(status, str) and status in known else "pending"}


def storable(value: str) -> str:
    """A text that PostgreSQL can keep in JSON."""
    return value.replace("\0", "␀").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# Events


def log(line: str, stream: str = "stdout") -> AgentEvent:
    return AgentEvent("log", {"stream": stream, "text": line + "\n"})


def unknown(said: Mapping[str, Any]) -> AgentEvent:
    """A message that this adapter does not know, as a line of the log."""
    return log(json.dumps(said, ensure_ascii=False))


def title(verb: str, rest: Any) -> str:
    """A short line for a person: a path below the workspace without it, of a text its first line."""
    lines = text(rest).strip().splitlines()
    line = lines[0].strip().removeprefix(WORKSPACE).removeprefix("./") if lines else ""
    whole = f"{verb} {line}".strip() + (" …" if len(lines) > 1 else "")
    return whole if len(whole) <= TITLE_MAX else whole[: TITLE_MAX - 1] + "…"


def locations(*paths: Any) -> dict[str, Any]:
    """The member of a tool call that says what it is about, left out without a path."""
    named = [{"path": path} for path in paths if isinstance(path, str) and path]
    return {"locations": named} if named else {}


def usage(model: str, *, read: int, cached: int, written: int, thought: int = 0, cost: float | None = None) -> AgentEvent:
    """`read` holds `cached`, `written` holds `thought`."""
    data: dict[str, Any] = {"input_tokens": read, "cached_tokens": cached, "output_tokens": written, "reasoning_tokens": thought}
    return AgentEvent("usage", ({"model": model} if model else {}) | data | ({} if cost is None else {"cost_usd": cost}))


def mcp_json(servers: Sequence[McpServer], url_key: str) -> dict[str, Any]:
    """The form most agents agree on; they differ in the name of a URL's member."""
    return {
        server.name: {url_key: server.url, **({"type": "http"} if url_key == "url" else {})}
        if server.url
        else {"command": server.command[0], "args": list(server.command[1:]), "env": dict(server.env)}
        for server in servers
        if server.url or server.command
    }
