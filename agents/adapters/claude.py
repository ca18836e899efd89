"""Claude Code: `claude -p` with JSON lines both ways.

The prompt is the first line of its standard input, which stays open: lines that follow steer the turn that is at work. It prints
what the model writes twice, as `stream_event`s while it is written and whole as an `assistant` message for each block; both get the
same id here. Shapes: the recordings in tests/agents/golden/claude and `claude --help`.
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
    OPEN_MAX,
    NativeAdapter,
    count,
    items,
    locations,
    log,
    mapping,
    mappings,
    mcp_json,
    money,
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

MCP_FILE = f"{FILES}/claude-mcp.json"
PROJECT = f"{HOME}/.claude/projects/-workspace"  # its name for the folder that it works in
_IN_ITS_WORDS = r"LC_ALL=C tr -d '\200-\277' | LC_ALL=C tr -c '[:alnum:]\n' -"  # a dash for each character, of however many bytes
LOCAL_PROJECT = "${CLAUDE_CONFIG_DIR:-$HOME/.claude}/projects/$(pwd -P | " + _IN_ITS_WORDS + ")"
SAID = ("user", "assistant", "system", "attachment", "summary")  # lines of a conversation's file; the others are of its process
WRITING_TOOLS = ("Edit", "MultiEdit", "Write", "NotebookEdit")

# What is of no interest to a reader, or told by another message as well.
QUIET = {"rate_limit_event", "tool_progress", "tool_use_summary", "auth_status", "control_response", "keep_alive", "prompt_suggestion"}
QUIET_SYSTEM = {
    *("status", "thinking_tokens", "permission_denied", "session_state_changed", "session_title_changed", "files_persisted"),
    *("task_started", "task_progress", "task_updated", "task_notification", "task_summary", "background_tasks_changed"),
    *("hook_started", "hook_progress", "hook_response", "turn_duration", "turn_starting", "commands_changed", "shell_cwd"),
    *("session_metadata", "vcs_state_changed", "file_snapshot", "post_turn_summary", "memory_recall", "memory_saved"),
}

# Of each tool: the protocol's kind, the verb of its title, and the member of its input that the title goes on with.
TOOLS = {
    "Bash": ("execute", "", "command"),
    "BashOutput": ("execute", "Output of", "bash_id"),
    "Monitor": ("execute", "Watch", "command"),
    "Read": ("read", "Read", "file_path"),
    "Write": ("edit", "Write", "file_path"),
    "Edit": ("edit", "Edit", "file_path"),
    "MultiEdit": ("edit", "Edit", "file_path"),
    "NotebookEdit": ("edit", "Edit", "notebook_path"),
    "Grep": ("search", "Search for", "pattern"),
    "Glob": ("search", "Find", "pattern"),
    "LS": ("search", "List", "path"),
    "ToolSearch": ("search", "Search tools for", "query"),
    "WebFetch": ("fetch", "Fetch", "url"),
    "WebSearch": ("fetch", "Search the web for", "query"),
    "Task": ("think", "Subagent:", "description"),
    "Agent": ("think", "Subagent:", "description"),
    "Skill": ("other", "Skill", "skill"),
}


class ClaudeAdapter(NativeAdapter):
    name = "claude"
    label = "Claude Code"
    description = "Anthropic's agent. Works with an API key or the long-lived token of a subscription."
    models = (
        Model("claude-opus-5-5", "Claude Opus 5.5"),
        Model("claude-fable-5-2", "Claude Fable 5.2"),
        Model("claude-sonnet-5-5", "Claude Sonnet 5.5"),
        Model("claude-haiku-5-5", "Claude Haiku 5.5"),
    )
    providers = (Provider.ANTHROPIC,)
    package = "claude"
    modes = ("code", "plan", "ask")
    efforts = ("low", "medium", "high", "xhigh", "max")
    can_resume = True
    can_limit_turns = True
    can_steer = True
    by_hand = ("claude",)

    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch:
        argv = [PACKAGES[self.package].path, "-p", "--output-format", "stream-json", "--input-format", "stream-json", "--verbose"]
        argv += ["--include-partial-messages", "--dangerously-skip-permissions", "--model", turn.model or self.models[0].name]
        if turn.resume:
            argv += ["--resume", turn.resume]
        if turn.options.get("max_turns"):
            argv += ["--max-turns", str(turn.options["max_turns"])]
        if turn.options.get("effort"):
            argv += ["--effort", str(turn.options["effort"])]
        if turn.mode != "code":
            argv += ["--disallowedTools", ",".join(WRITING_TOOLS)]
        files = {}
        if turn.mcp_servers:
            argv += ["--mcp-config", MCP_FILE, "--strict-mcp-config"]
            files[MCP_FILE] = json.dumps({"mcpServers": mcp_json(turn.mcp_servers, "url")})
        key = "CLAUDE_CODE_OAUTH_TOKEN" if access.is_subscription else "ANTHROPIC_API_KEY"
        return Launch(
            argv=[*argv, *turn.options.get("extra_args", [])],
            env={
                "ANTHROPIC_BASE_URL": access.base_url,
                key: access.token,
                "IS_SANDBOX": "1",  # else it refuses to skip permissions where it is root
                "CLAUDE_CODE_MAX_RETRIES": "2",  # of its own; ten take three minutes
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
                "DISABLE_ERROR_REPORTING": "1",
                "DISABLE_TELEMETRY": "1",
            },
            files=files,
            input=[self.message(turn.text)],
            ends_on=[{"type": "result"}],
            goes_on=[{"type": "system", "subtype": "init"}],
        )

    def message(self, text: str) -> str:
        return json.dumps({"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": text}]}})

    def saved(self, conversation: str) -> Saved | None:
        if not is_id(conversation):
            return None
        resume = ("claude", "--resume", conversation, "--permission-mode", "default")
        return Saved(f"{PROJECT}/{conversation}.jsonl", LOCAL_PROJECT, f"{conversation}.jsonl", resume)

    def portable(self, said: dict[str, Any]) -> dict[str, Any] | None:
        return {key: value for key, value in said.items() if key != "permissionMode"} if said.get("type") in SAID else None

    def read(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        match said.get("type"):
            case "system":
                yield from self._system(said, state)
            case "stream_event":
                yield from self._streamed(said, state)
            case "assistant":
                yield from self._assistant(said, state)
            case "user":
                yield from self._user(said, state)
            case "result":
                yield from self._result(said, state)
            case str() as kind if kind in QUIET:
                pass
            case _:
                yield unknown(said)

    def _system(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        subtype = text(said.get("subtype"))
        if subtype == "init":
            self.converses(text(said.get("session_id")), state)
            errors.goes_on(state)
        elif subtype == "api_retry":
            status = number(said.get("error_status"))
            why = " ".join(filter(None, [str(status) if status else "", text(said.get("error")).replace("_", " ")]))
            yield log(
                f"The model API failed ({why or 'no answer'}); retry {count(said.get('attempt'))} of {count(said.get('max_retries'))}."
            )
        elif subtype == "compact_boundary":
            yield log("The conversation was long and has been summarised.")
        elif subtype not in QUIET_SYSTEM:
            yield unknown(said)

    # What the model writes. state["open"] has for each agent (the main one, and subagents by the tool call they belong to) the id of
    # the message that is being written and the blocks whose whole text has not come yet: {"": {"id", "blocks": {index: kind}}}.

    def _streamed(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        whose, event = storable(text(said.get("parent_tool_use_id"))), mapping(said.get("event"))
        messages = state.setdefault("open", {})
        index = str(count(event.get("index")))
        if event.get("type") == "message_start":
            yield from _unwritten(messages.pop(whose, None), whose)
            if len(messages) < OPEN_MAX:
                messages[whose] = {"id": storable(text(mapping(event.get("message")).get("id"))), "blocks": {}}
        elif event.get("type") == "content_block_delta" and whose in messages:
            delta = mapping(event.get("delta"))
            kind = {"text_delta": "message", "thinking_delta": "thought"}.get(text(delta.get("type")), "")
            chunk = text(delta.get("text" if kind == "message" else "thinking")) if kind else ""
            if chunk and (index in messages[whose]["blocks"] or len(messages[whose]["blocks"]) < OPEN_MAX):
                messages[whose]["blocks"][index] = kind
                yield AgentEvent(_kind(kind, whose), {"id": f"{messages[whose]['id']}/{index}", "chunk": chunk})
        elif event.get("type") == "message_stop":
            yield from _unwritten(messages.pop(whose, None), whose)

    def _assistant(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        message, whose = mapping(said.get("message")), storable(text(said.get("parent_tool_use_id")))
        being_written = state.get("open", {}).get(whose)
        if said.get("is_api_error_message") is True:
            return  # the result says it again, as what it is
        for block in mappings(message.get("content")):
            kind = {"text": "message", "thinking": "thought"}.get(text(block.get("type")), "")
            if kind:
                words = text(block.get("text" if kind == "message" else "thinking"))
                streamed = _take(being_written, kind, storable(text(message.get("id"))))
                if words.strip() or streamed:
                    yield AgentEvent(_kind(kind, whose), ({"id": streamed} if streamed else {}) | {"text": words})
                if kind == "message" and not whose:
                    self.answers(words, state)
            elif block.get("type") == "tool_use":
                yield from self._tool_use(block, whose, state)
            elif block.get("type") != "redacted_thinking":
                yield unknown(block)

    def _tool_use(self, block: dict[str, Any], whose: str, state: ParseState) -> Iterator[AgentEvent]:
        name, given, call = text(block.get("name")), block.get("input"), text(block.get("id"))
        inputs = mapping(given)
        if name == "TodoWrite":
            if not whose:
                yield AgentEvent(
                    "plan", {"entries": [todo(each.get("content"), each.get("status")) for each in mappings(inputs.get("todos"))]}
                )
            self.hides(call, state)
            return
        kind, verb, member = TOOLS.get(name, ("other", name.removeprefix("mcp__").replace("__", ": "), ""))
        shown = title(verb, inputs.get(member)) or name or "Tool"
        yield AgentEvent(
            "tool_call",
            {"id": call, "title": f"Subagent › {shown}" if whose else shown, "tool": kind, "input": given}
            | locations(inputs.get("file_path"), inputs.get("notebook_path")),
        )

    # What tools gave

    def _user(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        content = mapping(said.get("message")).get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        for block in mappings(content):
            if block.get("type") == "tool_result":
                if not self.is_hidden(text(block.get("tool_use_id")), state):
                    yield _tool_result(block, said.get("tool_use_result"))
            elif block.get("type") == "text" and not said.get("isReplay") and not said.get("parent_tool_use_id"):
                yield log(text(block.get("text")))

    def _result(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        for message in list(state.pop("open", {}).items()):
            yield from _unwritten(message[1], message[0])
        self.converses(text(said.get("session_id")), state)
        # `total_cost_usd` and `modelUsage` go on from turn to turn of a conversation; this is what came since the last result.
        for model, used in mapping(said.get("model_usage_since_last_result")).items():
            yield _usage(model, mapping(used))
        if said.get("is_error") is not True:
            self.answers(text(said.get("result")), state)
            errors.succeeded(state)
            return
        words = text(said.get("result")) or "; ".join(filter(None, map(text, items(said.get("errors")))))
        error_class = self._class(said, words)
        if error_class is ErrorClass.KILLED and "aborted" in text(said.get("terminal_reason")):
            words = "It was interrupted."
        errors.failed(state, error_class, words)
        yield errors.event(error_class, self.label, words)

    def _class(self, said: dict[str, Any], words: str) -> ErrorClass:
        subtype, reason = text(said.get("subtype")), text(said.get("terminal_reason"))
        if subtype == "error_max_budget_usd":
            return ErrorClass.CREDIT
        if subtype == "error_max_turns" or "aborted" in reason:
            return ErrorClass.KILLED
        return errors.classify(f"{text(said.get('api_error_type'))} {words}", number(said.get("api_error_status"))) or ErrorClass.CRASHED


def _kind(kind: str, whose: str) -> str:
    """What a subagent says is said to the agent that asked it, not to the reader."""
    return "thought" if whose else kind


def _take(being_written: dict[str, Any] | None, kind: str, message: str) -> str:
    """The id under which the next block of this kind was streamed, or ""."""
    if being_written and being_written["id"] == message:
        for index, of_kind in being_written["blocks"].items():
            if of_kind == kind:
                del being_written["blocks"][index]
                return f"{being_written['id']}/{index}"
    return ""


def _unwritten(being_written: dict[str, Any] | None, whose: str) -> Iterator[AgentEvent]:
    """Blocks that broke off are written anew under another id: what came of them is taken back."""
    for index, kind in (being_written or {"blocks": {}})["blocks"].items():
        yield AgentEvent(_kind(kind, whose), {"id": f"{being_written and being_written['id']}/{index}", "text": ""})


def _tool_result(block: dict[str, Any], told: Any) -> AgentEvent:
    """`told` is the tool's own, structured word: of another shape for each tool, a text where it failed."""
    content, more = block.get("content"), mapping(told)
    parts = [text(part.get("text")) or f"[{text(part.get('type')) or 'unknown'}]" for part in mappings(content)]
    output = content if isinstance(content, str) else "\n".join(parts)
    is_error = block.get("is_error") is True
    data: dict[str, Any] = {"id": text(block.get("tool_use_id")), "is_error": is_error, "output": output}
    head, _, rest = output.partition("\n")
    if is_error and (code := head.removeprefix("Exit code ")) != head and code.isdecimal() and len(code) < 6:
        data |= {"exit_code": int(code), "output": rest}
    elif "stdout" in more and not is_error:
        data["exit_code"] = 0
    if diffs := _diffs(more):
        data["diffs"] = diffs
    return AgentEvent("tool_result", data)


def _diffs(told: dict[str, Any]) -> list[dict[str, Any]]:
    path = text(told.get("filePath"))
    if path and isinstance(told.get("oldString"), str) and isinstance(told.get("newString"), str):
        return [{"path": path, "old": told["oldString"], "new": told["newString"]}]
    if path and told.get("type") in ("create", "update") and isinstance(told.get("content"), str):
        original = told.get("originalFile")
        return [{"path": path, "old": original if isinstance(original, str) else None, "new": told["content"]}]
    return []


def _usage(model: str, used: dict[str, Any]) -> AgentEvent:
    cached = count(used.get("cacheReadInputTokens"))
    return usage(
        model,
        read=count(used.get("inputTokens")) + cached + count(used.get("cacheCreationInputTokens")),
        cached=cached,
        written=count(used.get("outputTokens")),
        thought=count(used.get("thinkingTokens")),
        cost=money(used.get("costUSD")),
    )
