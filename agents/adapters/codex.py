"""Codex: `codex exec --json`, one process a turn.

The prompt comes from a file by its standard input, so that it may be of any length and begin with anything; the shell that opens
the file becomes Codex. What the model writes comes whole. Shapes: the recordings in tests/agents/golden/codex and
`codex exec --help`; models and efforts: `codex debug models`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from agents.adapters import errors
from agents.adapters.base import AgentEvent, ErrorClass, Launch, McpServer, Model, ModelAccess, ParseState, Provider, TurnRequest
from agents.adapters.native import (
    HOME,
    OPEN_MAX,
    NativeAdapter,
    count,
    locations,
    log,
    mapping,
    mappings,
    number,
    storable,
    text,
    title,
    todo,
    unknown,
    usage,
)
from agents.adapters.saved import Saved, is_id
from agents.packages import PACKAGES

CODEX_HOME = f"{HOME}/.codex"
PROMPT_FILE = f"{CODEX_HOME}/asynccode-prompt.txt"  # there, as the folder must exist
LOCAL_SESSIONS = "${CODEX_HOME:-$HOME/.codex}/sessions"
PROVIDER = "asynccode"  # ours; elsewhere a conversation with it could not be resumed
KEY = "ASYNCCODE_MODEL_TOKEN"
SAYS_MODEL = "asynccode.model"  # our own line before the first of Codex, which never says which model it asks
WITH_PROMPT = f'printf "%s\\n" "$1"; shift; exec "$@" < {PROMPT_FILE}'

# Of its own environment it passes next to nothing to Model Context Protocol servers; and `npx` may have to download one first.
PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY")
MCP_START_S = 60

KINDS = {"add": "Add", "delete": "Delete", "update": "Edit"}
RETRIES = ("Reconnecting...", "Falling back")
FIGURES = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")


class CodexAdapter(NativeAdapter):
    name = "codex"
    label = "Codex"
    description = "OpenAI's agent."
    models = (
        Model("gpt-6.1-sol", "GPT-6.1 Sol"),
        Model("gpt-6-astra", "GPT-6 Astra"),
        Model("gpt-6.1-terra", "GPT-6.1 Terra"),
        Model("gpt-6-luna", "GPT-6 Luna"),
        Model("gpt-5.5", "GPT-5.5"),
    )
    providers = (Provider.OPENAI,)
    package = "codex"
    modes = ("code", "plan", "ask")
    efforts = ("low", "medium", "high", "xhigh")
    can_resume = True
    by_hand = ("codex",)

    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch:
        model = turn.model or self.models[0].name
        config = {
            "model": model,
            "model_provider": PROVIDER,
            f"model_providers.{PROVIDER}": {
                "name": PROVIDER,
                "base_url": f"{access.base_url}/v1",
                "env_key": KEY,
                "wire_api": "responses",
                "request_max_retries": 2,
                "stream_max_retries": 2,
            },
            "analytics.enabled": False,
            "check_for_update_on_startup": False,
            **({"model_reasoning_effort": str(turn.options["effort"])} if turn.options.get("effort") else {}),
            **({"mcp_servers": {server.name: _mcp(server) for server in turn.mcp_servers}} if turn.mcp_servers else {}),
        }
        argv = [PACKAGES[self.package].path, "exec", *(["resume"] if turn.resume else [])]
        argv += ["--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        argv += ["--disable", "plugins", "--disable", "apps"]
        for key, value in config.items():
            argv += ["-c", f"{key}={_toml(value)}"]
        argv += [*turn.options.get("extra_args", []), *([turn.resume] if turn.resume else []), "-"]
        return Launch(
            argv=["/bin/sh", "-c", WITH_PROMPT, "codex", json.dumps({"type": SAYS_MODEL, "model": model}), *argv],
            env={"CODEX_HOME": CODEX_HOME, KEY: access.token},
            files={PROMPT_FILE: turn.text},
            ends_on=[{"type": "turn.completed"}, {"type": "turn.failed"}],
        )

    def saved(self, conversation: str) -> Saved | None:
        if not is_id(conversation):
            return None
        # It resumes with the permissions that the conversation had, and those of a sandbox are all.
        resume = ("codex", "resume", conversation, "--ask-for-approval", "on-request", "--sandbox", "workspace-write", "--cd", ".")
        name = f"rollout-2000-01-01T00-00-00-{conversation}.jsonl"  # it wants a time, and takes any
        return Saved(f"{CODEX_HOME}/sessions/*/*/*/rollout-*-{conversation}.jsonl", LOCAL_SESSIONS, name, resume)

    def portable(self, said: dict[str, Any]) -> dict[str, Any] | None:
        payload = mapping(said.get("payload"))
        match said.get("type"):
            case "session_meta":
                return said | {"payload": payload | {"model_provider": "openai"}}
            case "response_item" | "compacted":
                return said
            case "event_msg" if payload.get("type") != "thread_settings_applied":
                return said
            case _:  # what a turn was allowed to do, and where
                return None

    def read(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        match said.get("type"):
            case "asynccode.model":
                state["model"] = storable(text(said.get("model"))[:200])
            case "thread.started":
                self._begin(text(said.get("thread_id")), state)
            case "turn.started":
                errors.goes_on(state)
            case "item.started" | "item.updated" | "item.completed" as kind:
                yield from self._item(mapping(said.get("item")), kind.removeprefix("item."), state)
            case "turn.completed":
                yield from self._usage(mapping(said.get("usage")), state)
                errors.succeeded(state)
            case "turn.failed":
                yield from self._failed(text(mapping(said.get("error")).get("message")), state)
            case "error":  # of what is retried; what is final comes as turn.failed too
                words = errors.words(text(said.get("message")))
                state |= {"stderr": storable(words[: errors.SAID_MAX]), "is_retried": True}
                if words.startswith(RETRIES):
                    yield log(words)
            case _:
                yield unknown(said)

    def _begin(self, thread: str, state: ParseState) -> None:
        """Items are numbered anew with each turn, figures go on from turn to turn."""
        self.converses(thread, state)
        thread = text(state.get("conversation"))
        before = mapping(mapping(state.get("carried")).get(thread))
        turns = count(before.get("turns")) + 1
        state["carried"] = {thread: {"turns": turns, "figures": before.get("figures") or [0] * len(FIGURES)}}
        state["items"] = f"{thread[-8:]}-{turns}"

    def _item(self, item: dict[str, Any], phase: str, state: ParseState) -> Iterator[AgentEvent]:
        kind, words, is_over = item.get("type"), text(item.get("text")), phase == "completed"
        if kind in ("agent_message", "reasoning", "error") and not is_over:
            return
        match kind:
            case "agent_message":
                yield from self._message(words, state)
            case "reasoning":
                yield AgentEvent("thought", {"text": words})
            case "error":
                yield log(text(item.get("message")))
            case "todo_list" | "plan" | "plan_update":
                yield AgentEvent("plan", {"entries": _entries(item)})
            case "command_execution" | "file_change" | "mcp_tool_call" | "web_search" | "collab_tool_call":
                yield from self._tool(item, kind, is_over=is_over, state=state)
            case _:
                yield unknown(item)

    def _message(self, words: str, state: ParseState) -> Iterator[AgentEvent]:
        """A stream that broke off is asked anew, and what it had said is said again."""
        if words == state.get("answer") and state.get("is_retried"):
            return
        state["is_retried"] = False
        self.answers(words, state)
        yield AgentEvent("message", {"text": words})

    def _tool(self, item: dict[str, Any], kind: str, *, is_over: bool, state: ParseState) -> Iterator[AgentEvent]:
        call = f"{text(state.get('items'))}-{text(item.get('id'))}"
        known = state.setdefault("calls", [])
        if storable(call) not in known:
            known.append(storable(call))
            del known[:-OPEN_MAX]
            yield AgentEvent("tool_call", {"id": call} | _call(item, kind))
        if is_over:
            yield AgentEvent("tool_result", {"id": call} | _result(item, kind))

    def _usage(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        """The figures are those of the whole thread: what came since its last turn."""
        now = [count(said.get(figure)) for figure in FIGURES]
        for carried in mapping(state.get("carried")).values():
            read, cached, written, thought = (max(0, new - old) for new, old in zip(now, carried["figures"], strict=True))
            carried["figures"] = now
            if read or written:
                yield usage(text(state.get("model")), read=read, cached=cached, written=written, thought=thought)

    def _failed(self, words: str, state: ParseState) -> Iterator[AgentEvent]:
        error_class = errors.classify(words) or ErrorClass.CRASHED
        words = errors.words(words)
        errors.failed(state, error_class, words)
        yield errors.event(error_class, self.label, words)


def _toml(value: Any) -> str:
    """A value as TOML writes it. Strings, numbers and lists are as in JSON, tables are not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=True) if not isinstance(value, str) else _quoted(value)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _mcp(server: McpServer) -> dict[str, Any]:
    """A table of `mcp_servers`. A key of -c is cut at its points whatever is quoted, so names belong into a value."""
    if server.url:
        return {"url": server.url, "startup_timeout_sec": MCP_START_S}
    command = {"command": server.command[0], "args": list(server.command[1:]), "env": dict(server.env)}
    return {**command, "env_vars": list(PROXY), "startup_timeout_sec": MCP_START_S}


def _entries(item: dict[str, Any]) -> list[dict[str, str]]:
    return [
        todo(each.get("text") or each.get("step"), "completed" if each.get("completed") is True else each.get("status"))
        for each in mappings(item.get("items")) or mappings(item.get("plan"))
    ]


def _call(item: dict[str, Any], kind: str) -> dict[str, Any]:
    match kind:
        case "command_execution":
            command = _command(text(item.get("command")))
            return {"title": title("", command) or "Command", "tool": "execute", "input": {"command": command}}
        case "file_change":
            changes = mappings(item.get("changes"))
            first = title(KINDS.get(text(changes[0].get("kind")), "Edit"), changes[0].get("path")) if changes else "Edit files"
            tools = {text(change.get("kind")) for change in changes}
            shown = {"changes": [{"path": text(change.get("path")), "kind": text(change.get("kind"))} for change in changes]}
            more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
            places = locations(*(change.get("path") for change in changes))
            return {"title": first + more, "tool": "delete" if tools == {"delete"} else "edit", "input": shown} | places
        case "mcp_tool_call":
            name = ": ".join(filter(None, [text(item.get("server")), text(item.get("tool"))]))
            return {"title": title("", name) or "Tool", "tool": "other", "input": item.get("arguments")}
        case "web_search":
            return {"title": title("Search the web for", item.get("query")), "tool": "fetch", "input": {"query": text(item.get("query"))}}
        case _:
            return {"title": title("Subagent:", item.get("prompt") or item.get("tool")), "tool": "think", "input": text(item.get("prompt"))}


def _command(command: str) -> str:
    """What is run, without the shell that Codex wraps around it."""
    for shell in ("/bin/bash -lc ", "bash -lc ", "/bin/sh -lc ", "/usr/bin/bash -lc "):
        if command.startswith(shell):
            return _unquoted(command.removeprefix(shell))
    return command


def _unquoted(word: str) -> str:
    try:
        words = shlex.split(word)
    except ValueError:
        return word
    return words[0] if len(words) == 1 else word


def _result(item: dict[str, Any], kind: str) -> dict[str, Any]:
    code = number(item.get("exit_code"))
    is_error = item.get("status") in ("failed", "declined") or bool(code)
    output = text(item.get("aggregated_output"))
    if kind == "mcp_tool_call":
        content = mappings(mapping(item.get("result")).get("content"))
        output = text(mapping(item.get("error")).get("message")) or "\n".join(text(part.get("text")) for part in content)
    return {"is_error": is_error, "output": output} | ({} if code is None else {"exit_code": code})
