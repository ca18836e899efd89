"""What an adapter is: our translation of one agent's command line. Argv out, events in; no state but ParseState."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.adapters.saved import Saved


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
class McpServer:
    """A Model Context Protocol server that a repository offers its agents: at a URL (streamable HTTP), or a command run in
    the sandbox."""

    name: str
    url: str = ""
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TurnRequest:
    """What the agent is asked.

    `resume` is its own id of the conversation to go on with, or ""; `transcript` the path of a file in the sandbox with what
    was said before in a conversation that cannot be resumed, or ""; `attachments` are the paths of files that go with the
    prompt. `options`: {"effort": low | medium | high, "max_turns": int, "extra_args": [str]}, each may be missing.
    `prompt` is what the user wrote; `instructions` is what the house adds to it (of its mode), to be put before it.
    """

    prompt: str
    model: str = ""
    mode: str = "code"
    resume: str = ""
    transcript: str = ""
    instructions: str = ""
    attachments: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    mcp_servers: Sequence[McpServer] = ()

    @property
    def text(self) -> str:
        """All of it as one prompt: instructions, where the transcript and the attachments lie, and the user's words."""
        parts = [self.instructions] if self.instructions else []
        if self.transcript:
            parts.append(
                f"This conversation began in another sandbox. What was said and done there is in {self.transcript}: read it first."
            )
        if self.attachments:
            parts.append("Attached files:\n" + "\n".join(f"- {path}" for path in self.attachments))
        return "\n\n".join([*parts, self.prompt])


class Provider(enum.StrEnum):
    """Whose model API an agent speaks; each has one way to be asked (`agents/broker.py`)."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GEMINI = "gemini"


@dataclass(frozen=True)
class ModelAccess:
    """Where the agent finds its model API, as seen from within the sandbox, and the token that is good for this turn only;
    empty for agents without a model.

    `base_url` has no slash at its end and no version in it (http://127.0.0.1:3128/anthropic). `is_subscription`: behind the
    token stands a subscription of Claude, so it goes where CLAUDE_CODE_OAUTH_TOKEN would.
    """

    provider: str = ""
    base_url: str = ""
    token: str = ""
    is_subscription: bool = False


@dataclass(frozen=True)
class Launch:
    """How an agent is started for one turn.

    `files` (path → text) must lie in the sandbox before; `input` are lines for its standard input, which then stays open for
    messages; without them it has none. `ends_on`: a line of standard output that is a JSON object with all members of one of
    these says that the work is done (its standard input is closed, and it is ended if it does not leave by itself), until a
    line with those of one of `goes_on`. `acp`: the Agent Client Protocol is spoken with it, by `sandboxes/inside/acp.py`,
    whose docstring says what this holds.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    input: Sequence[str] = ()
    ends_on: Sequence[Mapping[str, Any]] = ()
    goes_on: Sequence[Mapping[str, Any]] = ()
    acp: Mapping[str, Any] | None = None


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
    - usage: {"model", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd"}, what was added since
      the last; input_tokens are all that were read, cached_tokens those of them that came from the provider's cache, and
      reasoning_tokens those of output_tokens that were thought; without "cost_usd" the price table is asked
    - log: {"stream", "text"}
    - error: {"text", "class": an ErrorClass, "advice": what to do about it}
    """

    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Ending:
    """How the agent's process ended. `reason` as in the journal: exit, finished (it had said so, and then hung), total,
    silence, stop, memory, disk, output, error."""

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
"""JSON that `parse` may change; stored with the journal's offset in one transaction; empty at the beginning of each turn.

The house reads from it: "conversation", the agent's own id to resume by, and "answer", the text of its last message. Whatever
is cumulative in a conversation (figures of usage) is kept under "carried": {…}, which the next turn of the same sandbox gets.
"""


class Adapter(ABC):
    name: str
    label: str
    description: str = ""
    models: Sequence[Model] = ()  # those known when this was written; the first is the default; operators may name others
    providers: Sequence[Provider] = ()  # whose keys it can work with, the best first; none: it has no model
    package: str = ""  # what of `agents/packages.py` must be installed
    modes: Sequence[str] = ("code",)
    efforts: Sequence[str] = ()  # of reasoning, as this agent names them
    can_resume: bool = False  # whether a turn that was cut short may go on by itself, here or in a new sandbox
    can_limit_turns: bool = False  # whether it knows the option "max_turns": how many steps of the model a turn may have
    can_steer: bool = False  # whether it takes messages while a turn is at work
    by_hand: Sequence[str] = ()  # what starts it in a terminal of one's own, asking before it acts, when a prompt is added to it

    @abstractmethod
    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch: ...

    def provider(self, model: str) -> Provider | None:
        """Whose API this model ("" for the default) is asked through."""
        return self.providers[0] if self.providers else None

    def message(self, text: str) -> str:
        """A message for a turn that is at work, as one line for its standard input; only if `can_steer`."""
        raise NotImplementedError

    @abstractmethod
    def parse(self, line: str, state: ParseState, *, stream: str = "stdout") -> Iterator[AgentEvent]:
        """Events of one line of output. Odd input becomes a log event, never an exception."""

    def saved(self, conversation: str) -> Saved | None:
        """Where it keeps the conversation of this id, which is the agent's own word; None when it cannot be gone on with elsewhere."""
        return None

    def portable(self, said: dict[str, Any]) -> dict[str, Any] | None:
        """One line of such a file as it goes elsewhere; None for what says something of the sandbox only."""
        return said

    def outcome(self, ending: Ending, state: ParseState) -> Outcome:
        """What became of the turn; agents whose exit code says too little refine it."""
        match ending.reason:
            case "exit" if ending.code == 0:
                return Outcome(True)
            case "finished":
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
