"""The shell agent: the prompt is a bash script run in the workspace. No model, no key: codemods, formatters, checks."""

from __future__ import annotations

from collections.abc import Iterator

from agents.adapters.base import Adapter, AgentEvent, Ending, ErrorClass, Launch, ModelAccess, Outcome, ParseState, TurnRequest

SCRIPT = "/home/agent/.asynccode/script.sh"


class ShellAdapter(Adapter):
    name = "shell"
    label = "Shell script"
    description = "Runs your prompt as a bash script in the workspace. No model, no key."

    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch:
        # Browsers send CRLF in form fields; bash would take the CR as part of each word.
        return Launch(argv=["/bin/bash", SCRIPT], files={SCRIPT: turn.prompt.replace("\r\n", "\n")})

    def parse(self, line: str, state: ParseState, *, stream: str = "stdout") -> Iterator[AgentEvent]:
        yield AgentEvent("log", {"stream": stream, "text": line + "\n"})

    def outcome(self, ending: Ending, state: ParseState) -> Outcome:
        if ending.reason == "exit" and ending.code:
            return Outcome(False, ErrorClass.CRASHED, f"The script ended with exit code {ending.code}. Its last lines are in the log.")
        return super().outcome(ending, state)
