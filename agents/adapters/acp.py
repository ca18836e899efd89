"""The one adapter for all agents that speak the Agent Client Protocol (version 1); what differs between them is a Profile.

In the sandbox `sandboxes/inside/acp.py` is the protocol's client and says each message as a line; here these lines become events.
The protocol has no ends of messages, calls that are told in pieces, and figures that each agent reckons in its own way. Shapes:
agentclientprotocol.com/protocol, and the recordings in tests/agents/golden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agents.adapters import errors
from agents.adapters.base import AgentEvent, ErrorClass, Launch, McpServer, Model, ModelAccess, ParseState, Provider, TurnRequest
from agents.adapters.calls import Calls
from agents.adapters.native import NativeAdapter, count, log, mapping, mappings, money, number, storable, text, todo, unknown, usage
from agents.packages import PACKAGES

WRITING_MAX = 200_000  # characters of one message that are remembered while it is written; what is longer becomes several
NEVER = r"(?!)"
KINDS = {"agent_message_chunk": "message", "agent_thought_chunk": "thought"}
MODEL = "asynccode/model"  # in the metadata of the prompt, for the reader of what was recorded: agents do not look at it

# Updates that are of no interest to a reader, or told by something else as well.
QUIET = {"available_commands_update", "current_mode_update", "session_info_update", "config_option_update", "user_message_chunk"}


def no_mode(turn: TurnRequest) -> str | None:
    return None


def no_options(turn: TurnRequest) -> dict[str, str | bool]:
    return {}


def no_files(turn: TurnRequest, access: ModelAccess) -> dict[str, str]:
    return {}


def usage_of_prompt(answer: Mapping[str, Any], update: Mapping[str, Any]) -> Mapping[str, Any]:
    """The figures that come with the end of a prompt, as the protocol proposes."""
    return mapping(answer.get("usage"))


@dataclass(frozen=True)
class Profile:
    """What is to know of one agent.

    `argv` follows the program; `mode`, `options` (the protocol's id → value) and with `sets_model` the model are set in the
    session. `usage` finds figures in the answer to the prompt (`answer`, else {}) or in an update (`update`, else {}); each is
    added to those before. `quiet` are the beginnings of names of the agent's own methods.

    The rest are regular expressions. `errors` say the class of what `agents/adapters/errors.py` does not know. `output` matches all
    that a command's call has shown: its group `output` is what the command wrote, `code` its exit code. `failure` finds in the last
    message of a turn that is over that it failed. What `aside` matches as a whole is the program's word, not the model's; if `again`
    finds something in it, what was being written comes once more.
    """

    name: str
    label: str
    description: str
    models: Sequence[Model]
    providers: Sequence[Provider]
    by_hand: Sequence[str]
    argv: Callable[[TurnRequest], Sequence[str]]
    env: Callable[[TurnRequest, ModelAccess], Mapping[str, str]]
    files: Callable[[TurnRequest, ModelAccess], Mapping[str, str]] = no_files
    mode: Callable[[TurnRequest], str | None] = no_mode
    options: Callable[[TurnRequest], Mapping[str, str | bool]] = no_options
    sets_model: bool = False
    auth: str | None = None
    resume: str = "load"
    usage: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] = usage_of_prompt
    output: str = NEVER
    errors: Mapping[ErrorClass, str] = field(default_factory=dict)
    failure: str = NEVER
    aside: str = NEVER
    again: str = NEVER
    quiet: tuple[str, ...] = ()
    efforts: Sequence[str] = ()
    can_limit_turns: bool = False


class AcpAdapter(NativeAdapter):
    modes = ("code", "plan", "ask")
    can_resume = True

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.name = self.package = profile.name
        self.label, self.description = profile.label, profile.description
        self.models, self.providers = profile.models, profile.providers
        self.efforts, self.can_limit_turns, self.by_hand = profile.efforts, profile.can_limit_turns, profile.by_hand

    def provider(self, model: str) -> Provider | None:
        """By the part of the model's name before the slash, for agents that ask several."""
        named = (model or self.models[0].name).partition("/")[0]
        return next((each for each in self.providers if named == WORDS[each]), self.providers[0])

    def launch(self, turn: TurnRequest, access: ModelAccess) -> Launch:
        profile = self.profile
        model = turn.model or self.models[0].name
        asked = replace(turn, model=model)
        return Launch(
            argv=[PACKAGES[self.package].path, *profile.argv(asked), *turn.options.get("extra_args", [])],
            env=profile.env(asked, access),
            files=profile.files(asked, access),
            ends_on=[{"acp": "end"}],
            acp={
                "prompt": [{"type": "text", "text": turn.text, "_meta": {MODEL: bare(model)}}],
                "session": turn.resume,
                "resume": profile.resume if turn.resume else "none",
                "mcp_servers": [_server(server) for server in turn.mcp_servers if server.url or server.command],
                "mode": profile.mode(asked),
                "model": model if profile.sets_model else None,
                "config": dict(profile.options(asked)),
                "auth": profile.auth,
                "allow": True,
            },
        )

    # Lines of the client

    def read(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        message = mapping(said.get("message"))
        match said.get("acp"):
            case "in":
                yield from self._received(message, state)
            case "out":
                yield from self._sent(message, state)
            case "session":
                if state.pop("resuming", None) and said.get("is_resumed") is not True:
                    yield log(f"{self.label} could not go on with its conversation and began a new one.")
                self.converses(text(said.get("id")), state)
                errors.goes_on(state)
            case "noise":
                yield log(text(said.get("text")))
            case "end":
                yield from self._said_failure(state)
                yield from self._whole(state)
                yield from Calls(state, self.profile.output).broken_off()
                if (cost := self._cost(state)) is not None:  # of a prompt that was not answered
                    yield usage(text(state.get("model")), read=0, cached=0, written=0, cost=cost)
                yield from self._end(said, state)
            case "replay":
                pass
            case _:
                yield unknown(said)

    def _sent(self, message: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        method, params = text(message.get("method")), mapping(message.get("params"))
        if method in ("session/load", "session/resume"):
            state["resuming"] = True
        elif method == "session/cancel":
            state["canceled"] = True
        elif method == "session/prompt":
            state["prompt"] = count(message.get("id"))
            meta = mapping(next(iter(mappings(params.get("prompt"))), {}).get("_meta"))
            state["model"] = storable(text(meta.get(MODEL))[:200])
        elif not method and isinstance(asked := state.get("asked"), dict) and asked["id"] == str(message.get("id")):
            del state["asked"]
            chosen = text(mapping(mapping(message.get("result")).get("outcome")).get("optionId"))
            was = "Allowed" if chosen and chosen in asked["allowing"] else "Not allowed"
            yield log(f"{was}: {asked['title']}")

    def _received(self, message: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        method, params = text(message.get("method")), mapping(message.get("params"))
        if method == "session/update":
            yield from self._update(mapping(params.get("update")), state)
        elif method == "session/request_permission":
            allowing = [text(each.get("optionId")) for each in mappings(params.get("options")) if "allow" in text(each.get("kind"))]
            call = mapping(params.get("toolCall"))
            state["asked"] = {
                "id": str(message.get("id")),
                "title": storable(text(call.get("title"))[:200]) or "what it asked for",
                "allowing": [storable(each[:200]) for each in allowing[:20]],
            }
        elif method:
            if not method.startswith(self.profile.quiet or ("\0",)):
                yield unknown(message)
        elif isinstance(message.get("error"), dict) and count(message.get("id")) != state.get("prompt"):
            yield log(f"{self.label} refused a request: {_error(mapping(message['error']))[0]}")
        elif "prompt" in state and count(message.get("id")) == state["prompt"]:
            yield from self._usage(self.profile.usage(mapping(message.get("result")), {}), state)

    def _update(self, update: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        kind = text(update.get("sessionUpdate"))
        yield from self._usage(self.profile.usage({}, update), state)
        if kind in KINDS:
            yield from self._chunk(KINDS[kind], update, state)
        elif kind in ("tool_call", "tool_call_update"):
            calls = Calls(state, self.profile.output)
            if calls.is_news(update):
                yield from self._whole(state)
            yield from calls.told(update)
        elif kind == "plan":
            yield from self._whole(state)
            yield AgentEvent(
                "plan", {"entries": [todo(entry.get("content"), entry.get("status")) for entry in mappings(update.get("entries"))]}
            )
        elif kind == "usage_update":
            cost = mapping(update.get("cost"))
            if cost.get("currency") == "USD" and (amount := money(cost.get("amount"))) is not None:
                state["cost"] = amount
        elif kind not in QUIET:
            yield unknown(update)

    # Messages. state["writing"] is the one that is being written: {"kind", "id", "told": the agent's id of it or "", "text"}.

    def _chunk(self, kind: str, update: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        chunk, told = storable(text(mapping(update.get("content")).get("text"))), storable(text(update.get("messageId"))[:200])
        if not chunk:
            return
        if kind == "message" and re.fullmatch(self.profile.aside, chunk[:4000], re.DOTALL):
            if re.search(self.profile.again, chunk):
                yield from self._taken_back(state)
            yield log(chunk.strip())
            return
        now = state.get("writing")
        if (now and (now["kind"], now["told"]) != (kind, told)) or (now and len(now["text"]) > WRITING_MAX):
            yield from self._whole(state)
        if "writing" not in state:
            state["messages"] = count(state.get("messages")) + 1
            state["writing"] = {"kind": kind, "id": f"{kind}-{state['messages']}", "told": told, "text": ""}
        state["writing"]["text"] += chunk
        yield AgentEvent(kind, {"id": state["writing"]["id"], "chunk": chunk})

    def _whole(self, state: ParseState) -> Iterator[AgentEvent]:
        """Something else follows, so the message that was being written is whole."""
        if now := state.pop("writing", None):
            if now["kind"] == "message":
                self.answers(now["text"], state)
            yield AgentEvent(now["kind"], {"id": now["id"], "text": now["text"]})

    def _taken_back(self, state: ParseState) -> Iterator[AgentEvent]:
        """What was being written is no message."""
        if now := state.pop("writing", None):
            yield AgentEvent(now["kind"], {"id": now["id"], "text": ""})

    # Figures. state["cost"] is what the conversation has cost by the agent's word, state["carried"] what of that was told before.

    def _usage(self, figures: Mapping[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        total = _figures(figures)
        if any(total.values()):
            yield usage(text(state.get("model")), **total, cost=self._cost(state))

    def _cost(self, state: ParseState) -> float | None:
        """What was added to the cost since it was told last; None if the agent does not know."""
        cost, carried = state.pop("cost", None), mapping(state.get("carried"))
        if not cost:
            return None
        before = carried.get("cost", 0.0) if carried.get("conversation") == state.get("conversation") else 0.0
        state["carried"] = {"conversation": state.get("conversation"), "cost": cost}
        return round(cost - before, 9) if cost >= before else float(cost)

    # The end

    def _said_failure(self, state: ParseState) -> Iterator[AgentEvent]:
        """The last message may be no answer, but say that there is none."""
        last = mapping(state.get("writing"))
        if last.get("kind") == "message" and re.search(self.profile.failure, last["text"][:4000]):
            state["failure"] = last["text"]
            yield from self._taken_back(state)

    def _end(self, said: dict[str, Any], state: ParseState) -> Iterator[AgentEvent]:
        reason, error = text(said.get("stop_reason")), said.get("error")
        failure = text(state.pop("failure", ""))
        if state.get("canceled"):  # some answer that as a turn that is over, others with an error
            yield from self._failed(*REASONS["cancelled"], state)
        elif isinstance(error, dict):
            words, status = _error(error)
            yield from self._failed(self._class(words, status), words, state)
        elif reason == "end_turn" and failure:
            yield from self._failed(self._class(failure), failure, state)
        elif reason == "end_turn":
            errors.succeeded(state)
        else:
            error_class, words = REASONS.get(reason, (ErrorClass.CRASHED, f"It stopped: {reason or 'it did not say why'}."))
            yield from self._failed(error_class, words, state)

    def _class(self, words: str, status: int | None = None) -> ErrorClass:
        of_its_own = (each for each, pattern in self.profile.errors.items() if re.search(pattern, words[:4000]))
        return next(of_its_own, None) or errors.classify(words, status) or ErrorClass.CRASHED

    def _failed(self, error_class: ErrorClass, words: str, state: ParseState) -> Iterator[AgentEvent]:
        words = storable(words)
        errors.failed(state, error_class, words)
        yield errors.event(error_class, self.label, words)


WORDS = {Provider.ANTHROPIC: "anthropic", Provider.OPENAI: "openai", Provider.GEMINI: "google"}
"""As the names of models begin, with agents that ask several providers."""

REASONS = {
    "cancelled": (ErrorClass.KILLED, "It was interrupted."),
    "max_tokens": (ErrorClass.CONTEXT, "The model reached its limit of tokens."),
    "max_turn_requests": (ErrorClass.KILLED, "It took as many steps as it may take."),
    "refusal": (ErrorClass.CRASHED, "The model refused to go on."),
}


def bare(model: str) -> str:
    """A model's name without its provider's before it, as price tables and the APIs have it."""
    provider, slash, name = model.partition("/")
    return name if slash and provider in WORDS.values() else model


def _figures(told: Mapping[str, Any]) -> dict[str, int]:
    """Some count cached tokens, and those of thoughts, apart: the total tells."""
    read, written = count(told.get("inputTokens")), count(told.get("outputTokens"))
    cached, thought = count(told.get("cachedReadTokens")), count(told.get("thoughtTokens"))
    more = count(told.get("totalTokens")) - read - written
    stored = count(told.get("cachedWriteTokens"))
    if cached + stored and more >= cached + stored:
        read, more = read + cached + stored, more - cached - stored
    if thought and more >= thought:
        written += thought
    return {"read": read, "cached": min(cached, read), "written": written, "thought": min(thought, written)}


def _error(error: Mapping[str, Any]) -> tuple[str, int | None]:
    """The words of an error, its data's among them, and the HTTP status if it has one."""
    data = error.get("data")
    details = mapping(data)
    more = data if isinstance(data, str) else next((text(details[name]) for name in ("message", "details", "error") if name in details), "")
    words = re.sub(r"^Internal error:? *", "", text(error.get("message")), flags=re.IGNORECASE)
    words = " ".join(dict.fromkeys(filter(None, [words, more]))) or text(error.get("message")) or "It did not say what went wrong."
    status = next((number(details[name]) for name in ("statusCode", "status", "httpStatus") if name in details), None)
    return words, status


def _server(server: McpServer) -> dict[str, Any]:
    """https://agentclientprotocol.com/protocol/session-setup#mcp-servers"""
    if server.url:
        return {"type": "http", "name": server.name, "url": server.url, "headers": []}
    env = [{"name": name, "value": value} for name, value in server.env.items()]
    return {"name": server.name, "command": server.command[0], "args": list(server.command[1:]), "env": env}
