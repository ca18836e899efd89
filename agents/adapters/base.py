"""What an adapter is: our translation of one agent's command line. Argv out, events in; no state but ParseState."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Model:
    name: str
    label: str


class ErrorClass(enum.StrEnum):
    AUTH = "auth"
    CREDIT = "credit"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    MODEL = "model"
    CONTEXT = "context"
    HUNG = "hung"
    CRASHED = "crashed"
    KILLED = "killed"


@dataclass(frozen=True)
class TurnRequest:
    """What the agent is asked: `resume` is its own id of the conversation to go on with, or ""; `attachments` are the
    paths of files in the sandbox that go with the prompt."""

    prompt: str
    model: str = ""
    mode: str = "code"
    resume: str = ""
    attachments: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelAccess:
    """Where the agent finds its model API and the token that is good for this turn only; empty for agents without a model."""

    base_url: str = ""
    token: str = ""


@dataclass(frozen=True)
class AgentEvent:
    """One event in the words of the Agent Client Protocol. `data` is JSON; what a kind does not know is left out:

    - message, thought: {"text"}, Markdown; as it is written {"id", "chunk"} (each goes on where the last one ended), and
      then {"id", "text"}, which takes the place of that id's chunks
    - tool_call: {"id", "title", "tool", "input", "locations": [{"path", "line"}]}; `tool` is the protocol's kind (read, edit,
      delete, move, search, execute, think, fetch, other), `input` text or JSON
    - tool_result: {"id" of the call, "is_error", "output": text, "exit_code", "seconds",
      "diffs": [{"path", "old", "new"}]}, `old` null for a new file
    - plan: {"entries": [{"content", "status"}]}, status pending, in_progress or completed; each plan replaces the one before
    - usage: {"input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd"}, what was added since the last
    - log: {"stream", "text"}
    - error: {"text", "class": an ErrorClass, "advice": what to do about it}
    """

    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Ending:
    """How the agent's process ended. `reason` as in the journal: exit, total, silence, stop, memory, disk, output, error."""

    reason: str
    code: int | None
    signal: int | None = None


@dataclass(frozen=True)
class Outcome:
    """Whether the turn is good; if not, its class and a sentence that says what to do."""

    is_ok: bool
    error_class: str = ""
    message: str = ""


ParseState = dict[str, Any]
"""JSON that `parse` may change; stored with the journal's offset in one transaction."""


class Adapter(ABC):
    name: str
    label: str
    description: str = ""
    models: Sequence[Model] = ()
    needs: str | None = None  # the provider whose key the agent needs
    can_resume: bool = False  # whether a conversation goes on in a new sandbox or after an interruption
    modes: Sequence[str] = ("code",)

    @abstractmethod
    def argv(self, turn: TurnRequest) -> list[str]: ...

    def files(self, turn: TurnRequest) -> dict[str, str]:
        """Files (path → text) that must lie in the sandbox before the agent starts."""
        return {}

    def env(self, access: ModelAccess) -> dict[str, str]:
        return {}

    @abstractmethod
    def parse(self, line: str, state: ParseState, *, stream: str = "stdout") -> Iterator[AgentEvent]:
        """Events of one line of output. Odd input becomes a log event, never an exception."""

    def outcome(self, ending: Ending, state: ParseState) -> Outcome:
        """What became of the turn; agents whose exit code says too little refine it."""
        match ending.reason:
            case "exit" if ending.code == 0:
                return Outcome(True)
            case "exit" if ending.signal is not None:
                return Outcome(False, ErrorClass.KILLED, f"{self.label} was killed by signal {ending.signal}.")
            case "exit":
                return Outcome(False, ErrorClass.CRASHED, f"{self.label} ended with exit code {ending.code}.")
            case "total":
                return Outcome(False, ErrorClass.HUNG, f"{self.label} was stopped: it took longer than a turn may take.")
            case "silence":
                return Outcome(False, ErrorClass.HUNG, f"{self.label} was stopped: it said nothing for too long.")
            case "memory":
                return Outcome(False, ErrorClass.KILLED, f"{self.label} was stopped: it used more memory than a sandbox may use.")
            case "disk":
                return Outcome(False, ErrorClass.KILLED, f"{self.label} was stopped: it used more disk than a sandbox may use.")
            case "output":
                return Outcome(False, ErrorClass.KILLED, f"{self.label} was stopped: it wrote more output than a turn may write.")
            case _:
                return Outcome(False, ErrorClass.KILLED, f"{self.label} was stopped.")
