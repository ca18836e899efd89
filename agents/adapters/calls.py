"""Tool calls as the Agent Client Protocol tells them: in pieces, in any order, some of them never begun, some never ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agents.adapters.base import AgentEvent, ParseState
from agents.adapters.native import WORKSPACE, items, mapping, mappings, number, storable, text, title, todo

OPEN_MAX = 100  # of calls that are remembered at once
KEPT_MAX = 20_000  # characters of what a call that is not done has shown so far
KINDS = {"read", "edit", "delete", "move", "search", "execute", "think", "fetch", "other"}
VERBS = {"read": "Read", "edit": "Edit", "delete": "Delete", "move": "Move", "search": "Search", "fetch": "Fetch"}
PATCHED = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)
SUBJECTS = ("command", "pattern", "query", "url", "description")


class Calls:
    """state["calls"] has those that are not done: id → {"title", "tool", "input", "locations", "is_told", "kept"}; state["done"]
    the ids of the last that are."""

    def __init__(self, state: ParseState, shown: str) -> None:
        """`shown`: see `acp.Profile.output`."""
        self._open: dict[str, dict[str, Any]] = state.setdefault("calls", {})
        self._state, self._shown = state, shown

    def is_news(self, update: dict[str, Any]) -> bool:
        """Whether this begins or ends a call."""
        call = _id(update)
        return call not in self._done and (call not in self._open or update.get("status") in ("completed", "failed"))

    @property
    def _done(self) -> list[str]:
        done: list[str] = self._state.setdefault("done", [])
        return done

    def told(self, update: dict[str, Any]) -> Iterator[AgentEvent]:
        """A call is told once its input is known or it is at work, as events are not changed later."""
        name = _id(update)
        if name in self._done:
            return
        if name not in self._open and len(self._open) >= OPEN_MAX:
            yield from self._end(next(iter(self._open)), {}, is_error=False)
        call = self._open.setdefault(name, {"title": "", "tool": "other", "locations": [], "is_told": False, "kept": {}})
        _merge(call, update)
        status = update.get("status")
        is_over = status in ("completed", "failed")
        if entries := mappings(mapping(call.get("input")).get("todos")):  # a list of things to do: shown as such, not as a call
            self._close(name)
            yield AgentEvent("plan", {"entries": [todo(entry.get("content"), entry.get("status")) for entry in entries]})
            return
        if not call["is_told"] and (_is_known(call.get("input")) or is_over or (status == "in_progress" and call["title"])):
            call["is_told"] = True
            yield AgentEvent("tool_call", _told(name, call))
            call.pop("input", None)
        if is_over:
            yield from self._end(name, update, is_error=status == "failed")

    def broken_off(self) -> Iterator[AgentEvent]:
        """The turn is over: what has not ended will not."""
        for name in list(self._open):
            if self._open[name]["is_told"]:
                yield from self._end(name, {}, is_error=True)
            else:
                del self._open[name]

    def _end(self, name: str, update: dict[str, Any], *, is_error: bool) -> Iterator[AgentEvent]:
        call = self._close(name)
        kept = call["kept"]
        raw = update.get("rawOutput")
        output = _output(update.get("content")) or _raw(raw) or text(kept.get("output"))
        diffs = _diffs(update.get("content")) or kept.get("diffs", [])
        code = _exit_code(raw)
        if call["tool"] == "execute" and (found := re.fullmatch(self._shown, output, re.DOTALL)):
            output, code = found["output"], int(found["code"])
        data: dict[str, Any] = {"id": name, "is_error": is_error or bool(code) or _is_failure(raw), "output": output}
        data |= {} if code is None else {"exit_code": code}
        yield AgentEvent("tool_result", data | ({"diffs": diffs} if diffs else {}))

    def _close(self, name: str) -> dict[str, Any]:
        self._state["done"] = [*self._done[-OPEN_MAX:], name]
        return self._open.pop(name)


def _id(update: dict[str, Any]) -> str:
    return storable(text(update.get("toolCallId"))[:200])


def _is_known(given: Any) -> bool:
    """Whether this is the input as the tool gets it, not a beginning of it."""
    return bool(given) and not (isinstance(given, dict) and set(given) <= {"cwd"})


def _merge(call: dict[str, Any], update: dict[str, Any]) -> None:
    """What an update does not say stays as it was."""
    if named := text(update.get("title")):
        call["title"] = call["title"] if call["is_told"] else storable(named[:400])
    if update.get("kind") in KINDS:
        call["tool"] = update["kind"]
    if update.get("rawInput") and not call["is_told"]:
        call["input"] = update["rawInput"]
        call["tool"] = "edit" if _patched(call["input"]) else call["tool"]
    places = [{"path": path} | _line(each) for each in mappings(update.get("locations"))[:50] if (path := text(each.get("path"))[:1000])]
    call["locations"] = places or call["locations"]
    if output := _output(update.get("content")):
        call["kept"]["output"] = storable(output[-KEPT_MAX:])
    if (diffs := _diffs(update.get("content"))) and len(str(diffs)) < KEPT_MAX:
        call["kept"]["diffs"] = diffs


def _line(location: dict[str, Any]) -> dict[str, int]:
    line = number(location.get("line"))
    return {} if line is None else {"line": line}


def _told(name: str, call: dict[str, Any]) -> dict[str, Any]:
    data = {"id": name, "title": _title(call), "tool": call["tool"]}
    data |= {"input": call["input"]} if call.get("input") else {}
    return data | ({"locations": call["locations"]} if call["locations"] else {})


def _title(call: dict[str, Any]) -> str:
    """The agent's title, if it says what the call is about; else what it is about, with a verb before it."""
    given = mapping(call.get("input"))
    about = next((text(given[name]) for name in SUBJECTS if text(given.get(name))), "")
    commands = "\n".join([text(given.get("command")), *map(text, items(given.get("commands")))]).strip()
    if call["tool"] == "execute" and commands:
        return title("", commands)
    if call["locations"] and call["tool"] != "search":
        about = call["locations"][0]["path"]
    if patched := _patched(call.get("input")):
        return title("Edit", patched)
    shown = title("", text(call["title"]).replace(WORKSPACE, ""))
    if not about or (" " in shown and about.rpartition("/")[2][:40] in shown):
        return shown or "Tool"
    verb = VERBS.get(call["tool"], shown)
    return title(verb, about)


def _patched(given: Any) -> str:
    """The path of the first file in a patch, which some agents' tools take, or ""."""
    found = PATCHED.search(text(given) or text(mapping(given).get("input")))
    return found[1] if found else ""


def _output(content: Any) -> str:
    """The text of what a call has shown."""
    parts = [mapping(each.get("content")) for each in mappings(content) if each.get("type") == "content"]
    return "\n".join(text(part.get("text")) or f"[{text(part.get('type')) or 'unknown'}]" for part in parts)


def _raw(raw: Any) -> str:
    """The same in a form of the agent's own."""
    if isinstance(raw, str):
        return raw
    if isinstance(raw, list):
        return "\n".join(filter(None, map(_raw, raw[:50])))
    names = ("output", "content", "stdout", "result", "error", "message")
    return next((text(mapping(raw)[name]) for name in names if text(mapping(raw).get(name))), "")


def _is_failure(raw: Any) -> bool:
    """Whether a call that is over says that it failed."""
    return any(each.get("success") is False for each in (mapping(raw), *mappings(raw)))


def _exit_code(raw: Any) -> int | None:
    told = mapping(raw)
    codes = [number(each.get(name)) for each in (told, mapping(told.get("metadata"))) for name in ("exitCode", "exit_code", "exit")]
    return next((code for code in codes if code is not None), None)


def _diffs(content: Any) -> list[dict[str, Any]]:
    return [
        {"path": text(each.get("path")), "old": text(each.get("oldText")) or None, "new": text(each.get("newText"))}
        for each in mappings(content)
        if each.get("type") == "diff" and text(each.get("path"))
    ]
