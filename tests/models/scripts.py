"""What the scripted model answers: markers such as `[[write hello.txt]]` in a prompt become replies, said once for all formats.

Each reply has at most one tool call, so the number of tool results since the prompt says which reply comes next; the server needs
no memory of conversations. README.md lists the markers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

WORKSPACE = "/workspace"


@dataclass(frozen=True)
class Usage:
    """`input` are all tokens read, `cached` those of them from the cache; `thought` are those of `output` that were thought."""

    input: int = 1000
    cached: int = 300
    output: int = 50
    thought: int = 20


@dataclass(frozen=True)
class Gate:
    """The stream waits here until the test opens it."""

    name: str


@dataclass(frozen=True)
class Shell:
    command: str
    in_background: bool = False


@dataclass(frozen=True)
class Write:
    path: str
    text: str

    @property
    def command(self) -> str:
        return f"cat > {self.path} <<'END'\n{self.text}END"

    @property
    def patch(self) -> str:
        """As Codex writes patches."""
        lines = "".join(f"+{line}\n" for line in self.text.splitlines())
        return f"*** Begin Patch\n*** Add File: {self.path}\n{lines}*** End Patch\n"


@dataclass(frozen=True)
class Plan:
    """A list of things to do in the agent's own tool for it; the first is in progress."""

    entries: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """`name`: auth, credit, rate_limit, overloaded, model, context or broken; None times: each time."""

    name: str
    times: int | None = None


@dataclass(frozen=True)
class Reply:
    """`parts` is the text in the pieces it is sent in, with pauses (seconds) and gates between them; a reply that is `cut` once
    ends there with the connection, and one that hangs is never begun."""

    thought: str = ""
    parts: tuple[str | float | Gate, ...] = ()
    call: Shell | Write | Plan | None = None
    usage: Usage = field(default_factory=Usage)
    refusal: Refusal | None = None
    cuts: int | None = 0  # how often the connection is cut; None: each time
    hangs: bool = False

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))


STATUSES = {
    "401": "auth",
    "402": "credit",
    "404": "model",
    "429": "rate_limit",
    "500": "broken",
    "529": "overloaded",
}
_MARKER = re.compile(r"\[\[([a-z][a-z-]*)(?:[ \n]+(.*?))?\]\]", re.DOTALL)


def replies(prompt: str) -> list[Reply]:
    """What the markers in a prompt ask for; the last reply has no tool call and ends the turn."""
    done: list[Reply] = []
    draft = Reply()
    for name, argument in _MARKER.findall(prompt):
        draft = _apply(draft, name, argument.strip(), prompt)
        if draft.call is not None:
            done.append(draft)
            draft = Reply()
            if isinstance(done[-1].call, Write) and name == "write":
                done.append(Reply(call=Shell(f"cat {done[-1].call.path}; git status --short")))
    return [*done, draft if draft.parts else replace(draft, parts=("All ", "done."))]


def _apply(draft: Reply, name: str, argument: str, prompt: str) -> Reply:
    match name, argument.split():
        case "write", [path, *words]:
            text = " ".join(words).replace("\\n", "\n") or f"hello from {path}"
            say = draft.parts or ("I'll ", "create ", f"{path}.")
            return replace(draft, thought="I should create the file.", parts=say, call=Write(path, text + "\n"))
        case "run", _:
            return replace(draft, call=Shell(argument))
        case "fail", _:
            return replace(draft, parts=draft.parts or ("This fails.",), call=Shell("echo before; cat /does/not/exist"))
        case "disobey", _:
            return replace(draft, call=Shell("echo disobeyed > disobeyed.txt; ls"))
        case "sleep-tool", [seconds]:
            return replace(
                draft, parts=draft.parts or ("I'll wait.",), call=Shell(f"echo waiting; timeout {seconds} tail -f /dev/null; true")
            )
        case "background", [seconds]:
            return replace(draft, call=Shell(f"timeout {seconds} tail -f /dev/null", in_background=True))
        case "attachments", _:
            paths = re.findall(r"^- (/\S+)$", prompt.partition("Attached files:")[2], re.MULTILINE)
            return replace(draft, call=Shell("; ".join(f"cat '{path}'" for path in paths) or "echo no attachments"))
        case "todo", _:
            return replace(draft, call=Plan(tuple(entry.strip() for entry in argument.split(";"))))
        case "several", _:
            return replace(
                draft, thought="First **look**, then act.", parts=("I'll look ", "around."), call=Shell("ls -a; echo to stderr >&2")
            )
        case "think", _:
            return replace(draft, thought=argument)
        case "say", _:
            return replace(draft, parts=(*draft.parts, argument))
        case "stream", [count, pause]:
            pieces = [piece for number in range(1, int(count) + 1) for piece in (f"chunk {number}\n", float(pause))]
            return replace(draft, parts=(*draft.parts, *pieces))
        case "gate", [gate]:
            return replace(draft, parts=(*draft.parts, Gate(gate)))
        case "spend", [tokens]:
            return replace(draft, usage=replace(draft.usage, output=int(tokens)), call=Shell("echo spent"))
        case "hang", _:
            return replace(draft, hangs=True)
        case "cut", words:
            return replace(draft, parts=draft.parts or ("This will ", "be cut."), cuts=None if words == ["always"] else 1)
        case "credit" | "context", _:
            return replace(draft, refusal=Refusal(name))
        case "status", [code, *words]:
            return replace(draft, refusal=Refusal(STATUSES[code], 1 if words == ["then", "ok"] else None))
        case _:
            return replace(draft, parts=(*draft.parts, f"I do not know the marker {name}."))


# --- tools --------------------------------------------------------------------------------------------------------------

Tools = Mapping[str, Mapping[str, Any]]
"""The tools of a request: name → its JSON schema's properties; {} for one that takes free text."""

_SHELLS = ("Bash", "bash", "run_shell_command", "shell_command", "exec_command", "shell", "local_shell", "run_commands")
_WRITERS = ("Write", "write", "write_file", "create")
_PLANNERS = ("TodoWrite", "update_plan", "todowrite", "todo_write", "write_todos")


def choose(call: Shell | Write | Plan, tools: Tools) -> tuple[str, dict[str, Any] | str]:
    """The name and the arguments of the tool that does this, of those that the request offers; text for one without a schema."""
    if isinstance(call, Plan):
        if name := _first(_PLANNERS, tools):
            return name, _planned(call, tools[name])
        return choose(Shell("echo no list of things to do"), tools)
    if isinstance(call, Write):
        if name := _first(_WRITERS, tools):
            wanted = tools[name]
            path = next(key for key in ("file_path", "filePath", "path") if key in wanted)
            text = next(key for key in ("content", "file_text") if key in wanted)
            return name, {path: f"{WORKSPACE}/{call.path}", text: call.text}
        if "apply_patch" in tools:
            field = next(iter(tools["apply_patch"]), "")  # none: it takes free text
            return "apply_patch", {field: call.patch} if field else call.patch
        if "exec" in tools:
            return "exec", f"text(await tools.apply_patch({json.dumps(call.patch)}));\n"
        return choose(Shell(call.command), tools)
    name = _first(_SHELLS, tools)
    if not name:
        return _in_code(call, tools)
    wanted = tools[name]
    arguments: dict[str, Any] = {}
    if "cmd" in wanted:
        arguments["cmd"] = call.command
    elif "commands" in wanted:
        arguments["commands"] = [call.command]
    else:
        is_list = wanted.get("command", {}).get("type") == "array"
        arguments["command"] = ["bash", "-lc", call.command] if is_list else call.command
    if "description" in wanted:
        arguments["description"] = "Run it"
    if "is_background" in wanted:
        arguments["is_background"] = call.in_background
    if call.in_background and "run_in_background" in wanted:
        arguments["run_in_background"] = True
    return name, arguments


def _first(names: Sequence[str], tools: Tools) -> str:
    return next((name for name in names if name in tools), "")


def _planned(call: Plan, wanted: Mapping[str, Any]) -> dict[str, Any]:
    rows = [(entry, "pending" if number else "in_progress") for number, entry in enumerate(call.entries)]
    if "plan" in wanted:
        return {"plan": [{"step": entry, "status": status} for entry, status in rows]}
    known = set(wanted["todos"].get("items", {}).get("properties", {}))
    return {
        "todos": [
            {
                key: value
                for key, value in {
                    "content": entry,
                    "description": entry,
                    "activeForm": entry,
                    "status": status,
                    "id": str(number),
                    "priority": "medium",
                }.items()
                if key in known
            }
            for number, (entry, status) in enumerate(rows, 1)
        ]
    }


def _in_code(call: Shell, tools: Tools) -> tuple[str, str]:
    """Codex's newer models are offered one tool that runs JavaScript, which has the others as functions."""
    if "exec" not in tools:
        raise LookupError(f"No tool for {call} among {sorted(tools)}")
    return "exec", (
        '// @exec: {"yield_time_ms": 3600000}\n'
        f"let r = await tools.exec_command({{cmd: {json.dumps(call.command)}, yield_time_ms: 30000}});\n"
        "let output = r.output;\n"
        "while (r.session_id !== undefined && r.exit_code === undefined) {\n"
        '  r = await tools.write_stdin({session_id: r.session_id, chars: "", yield_time_ms: 30000});\n'
        "  output += r.output;\n"
        "}\n"
        "text(output);\n"
    )
