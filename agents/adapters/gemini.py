"""Gemini CLI: `gemini --output-format stream-json`, one process a turn.

The prompt comes from a file by its standard input, as with Codex. A message comes in pieces without an id of its own; it is whole
when something else follows. Its figures are those of the process. Shapes: the recordings in tests/agents/golden/gemini.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from agents.adapters import errors
from agents.adapters.base import AgentEvent, ErrorClass, Launch, Model, ModelAccess, ParseState, Provider, TurnRequest
from agents.adapters.native import (
    FILES,
    HOME,
    NativeAdapter,
    count,
    locations,
    log,
    mapping,
    mappings,
    mcp_json,
    number,
    storable,
    text,
    title,
    todo,
    unknown,
    usage,
)
from agents.packages import PACKAGES

PROMPT_FILE = f"{FILES}/gemini-prompt.txt"
WITH_PROMPT = f'exec "$@" < {PROMPT_FILE}'
SETTINGS_FILE = f"{HOME}/.gemini/settings.json"
WRITING_TOOLS = ("write_file", "replace")

# Of each tool: the protocol's kind, the verb of its title, and the member of its input that the title goes on with.
TOOLS = {
    "run_shell_command": ("execute", "", "command"),
    "read_file": ("read", "Read", "file_path"),
    "read_many_files": ("read", "Read", "include"),
    "write_file": ("edit", "Write", "file_path"),
    "replace": ("edit", "Edit", "file_path"),
    "list_directory": ("search", "List", "dir_path"),
    "glob": ("search", "Find", "pattern"),
    "grep_search": ("search", "Search for", "pattern"),
    "search_file_content": ("search", "Search for", "pattern"),
    "web_fetch": ("fetch", "Fetch", "prompt"),
    "google_web_search": ("fetch", "Search the web for", "query"),
    "save_memory": ("other", "Remember", "fact"),
}


class GeminiAdapter(NativeAdapter):
    name = "gemini"
    label = "Gemini CLI"
    description = "Google's agent."
    models = (
        Model("gemini-2.5-pro", "Gemini 2.5 Pro"),
        Model("gemini-3.1-pro-preview", "Gemini 3.1 Pro (preview)"),
        Model("gemini-3-flash-preview", "Gemini 3 Flash (preview)"),
        Model("gemini-2.5-flash", "Gemini 2.5 Flash"),
    )
    providers = (Provider.GEMINI,)
    package = "gemini"
    modes = ("code", "plan", "ask")
    can_resume = True
    can_limit_turns = True
    by_hand = ("gemini", "--prompt-interactive")

    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch:
        argv = [PACKAGES[self.package].path, "--output-format", "stream-json", "--yolo", "--model", turn.model or self.models[0].name]
        argv += [*(["--resume", turn.resume] if turn.resume else []), *turn.options.get("extra_args", [])]
        return Launch(
            argv=["/bin/sh", "-c", WITH_PROMPT, "gemini", *argv],
            env={
                "GEMINI_API_KEY": access.token,
                "GOOGLE_GEMINI_BASE_URL": access.base_url,
                "GEMINI_CLI_TRUST_WORKSPACE": "true",
                "GEMINI_CLI_NO_RELAUNCH": "true",  # as a child of itself it loses what goes beyond 64 KiB of a pipe when it leaves
            },
            files={PROMPT_FILE: _plain(turn.text), SETTINGS_FILE: json.dumps(self._settings(turn))},
            ends_on=[{"type": "result"}],
        )

    def _settings(self, turn: TurnRequest) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "general": {"maxAttempts": 3, "enableAutoUpdate": False, "enableAutoUpdateNotification": False},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
        }
        if turn.options.get("max_turns"):
            settings["model"] = {"maxSessionTurns": int(turn.options["max_turns"])}
        if turn.mode != "code":
            settings["tools"] = {"exclude": list(WRITING_TOOLS)}
        if turn.mcp_servers:
            settings["mcpServers"] = mcp_json(turn.mcp_servers, "httpUrl")
        return settings

    def read(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        kind = said.get("type")
        if kind == "message" and said.get("role") == "assistant":
            yield from self._message(said, state)
            return
        yield from self._whole(state)
        match kind:
            case "init":
                self.converses(text(said.get("session_id")), state)
                state["begun"] = storable(text(said.get("timestamp"))[:40])  # tells the messages of this turn from those of others
                errors.goes_on(state)
            case "message" if said.get("role") == "user":
                pass
            case "tool_use":
                yield self._tool_use(said, state)
            case "tool_result":
                if not self.is_hidden(text(said.get("tool_id")), state):
                    yield _tool_result(said)
            case "error":
                state["stderr"] = storable(text(said.get("message"))[: errors.SAID_MAX])
                yield log(f"{text(said.get('severity'))}: {text(said.get('message'))}")
            case "result":
                yield from self._result(said, state)
            case _:
                yield unknown(said)

    def _message(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        chunk = text(said.get("content"))
        if said.get("delta") is not True:
            yield from self._whole(state)
            self.answers(chunk, state)
            yield AgentEvent("message", {"text": chunk})
        elif chunk:
            if "writing" not in state:
                state |= {"writing": "", "messages": count(state.get("messages")) + 1}
            state["writing"] = storable(state["writing"] + chunk)
            yield AgentEvent("message", {"id": _id(state), "chunk": chunk})

    def _whole(self, state: ParseState) -> Iterator[AgentEvent]:
        """Something else follows the pieces of a message: it is whole."""
        if "writing" in state:
            words = state.pop("writing")
            self.answers(words, state)
            yield AgentEvent("message", {"id": _id(state), "text": words})

    def _tool_use(self, said: dict[str, Any], state: ParseState) -> AgentEvent:
        name, inputs = text(said.get("tool_name")), mapping(said.get("parameters"))
        if name == "write_todos":
            self.hides(text(said.get("tool_id")), state)
            entries = mappings(inputs.get("todos"))
            return AgentEvent("plan", {"entries": [todo(each.get("description"), each.get("status")) for each in entries]})
        kind, verb, member = TOOLS.get(name, ("other", name.replace("__", ": "), ""))
        shown = title(verb, inputs.get(member)) or name or "Tool"
        data = {"id": text(said.get("tool_id")), "title": shown, "tool": kind, "input": said.get("parameters")}
        return AgentEvent("tool_call", data | locations(inputs.get("file_path")))

    def _result(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        for model, used in mapping(mapping(said.get("stats")).get("models")).items():
            yield from _usage(model, mapping(used))
        if said.get("status") == "success":
            errors.succeeded(state)
            return
        error = mapping(said.get("error"))
        said_it = text(error.get("message")) or text(state.get("stderr")) or "It ended with an error."
        stopped = error.get("type") in ("FatalTurnLimitedError", "FatalCancellationError")
        error_class = ErrorClass.KILLED if stopped else errors.classify(said_it) or ErrorClass.CRASHED
        words = errors.words(said_it)
        errors.failed(state, error_class, words)
        yield errors.event(error_class, self.label, words)


def _id(state: ParseState) -> str:
    return f"{text(state.get('begun'))}-{state['messages']}"


def _plain(prompt: str) -> str:
    """A prompt that the program takes as it is: one that begins with "/" it would run as a command of its own."""
    return f"\n{prompt}" if prompt.startswith("/") else prompt


def _tool_result(said: dict[str, Any]) -> AgentEvent:
    is_error = said.get("status") == "error"
    output = text(said.get("output")) or text(mapping(said.get("error")).get("message"))
    code = number(mapping(said.get("error")).get("exit_code"))
    data = {"id": text(said.get("tool_id")), "is_error": is_error, "output": output}
    return AgentEvent("tool_result", data | ({} if code is None else {"exit_code": code}))


def _usage(model: str, used: dict[str, Any]) -> Iterator[AgentEvent]:
    """What was thought is in the total only."""
    read, written = count(used.get("input_tokens")), count(used.get("output_tokens"))
    thought = max(0, count(used.get("total_tokens")) - read - written)
    if read or written:
        yield usage(model, read=read, cached=count(used.get("cached")), written=written + thought, thought=thought)
