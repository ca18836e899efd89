"""The client side of the Agent Client Protocol, version 1: one prompt in one session, for a step that has `acp`.

The step's own process is this client; the agent is its child and dies with it. `acp` of a step is an object:

    {"prompt": [content blocks of the protocol],
     "session": the id of the session to go on with, or "",
     "resume": "load" (session/load; what it replays is not repeated in the journal) | "resume" (session/resume, or
               session/load where there is none) | "none",
     "mcp_servers": [as the protocol has them], "mode": a mode's id or null, "model": a model's id or null,
     "config": {option's id: its value}, "auth": an authentication method's id or null,
     "allow": whether permissions that the agent asks for are given, each for this once}

All but `prompt` may be missing. Each message is written to standard output before it is acted upon or sent, so that what
happened is known whatever dies; strings that would make a line longer than the journal takes are shortened. The lines:

    {"acp": "out", "message": {…}}                     ours; of MCP servers only their names, as the rest may be secret
    {"acp": "in", "message": {…}}                      the agent's
    {"acp": "replay", "update": "tool_call", "bytes": 99}   an update of the past, between session/load and its answer
    {"acp": "noise", "text": "…"}                      a line of the agent's that is no JSON object
    {"acp": "session", "id": "…", "is_resumed": true}  false also when the session could not be gone on with
    {"acp": "end", "stop_reason": "end_turn" | …, "error": null | {"code", "message", "data"}}   the last line

The exit code is 0 when the stop reason is `end_turn` (the turn is over; agents end failed ones so, too), else 1. SIGINT and
SIGTERM cancel: the agent is told, and has the grace to answer (of SIGTERM a part of it, as KILL comes at its end; of SIGINT
five times as much). Any error after that is the stop reason `cancelled`.

Whatever the agent says is hostile; it can make us do no more than read and write files in the workspace, as itself could.
"""

from __future__ import annotations

import os
import signal
import struct

from . import _acp_files, kernel, processes
from ._acp_files import RefusedError
from ._acp_wire import Wire, say, starter
from .loop import READ, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn, Optional, Union

    from .limits import Limits

VERSION = 1
_LEAVE_S = 2.0
_TERM_SHARE, _LEAVE_SHARE = 0.6, 0.2  # of the grace, for the answer to a cancel and for the agent's leaving
_INTERRUPT_GRACES = 5.0
_NOT_FOUND, _INVALID, _INTERNAL = -32601, -32602, -32603
_SIGNAL = struct.Struct("I124x")  # of signalfd_siginfo the number
_OURS = {"name": "asynccode", "title": "asynccode", "version": "1"}


def check(acp: object) -> Optional[str]:
    """A sentence about what is wrong with the `acp` of a step; None when nothing is."""
    if not isinstance(acp, dict):
        return "It is not an object."
    for name, kinds, what in (
        ("prompt", list, "a list"), ("session", str, "text"), ("mcp_servers", list, "a list"), ("mode", (str, type(None)), "text or null"),
        ("model", (str, type(None)), "text or null"), ("config", dict, "an object"), ("auth", (str, type(None)), "text or null"),
        ("allow", bool, "true or false"),
    ):  # fmt: skip
        if name in acp and not isinstance(acp[name], kinds):
            return f"Its {name!r} is not {what}."
    if acp.get("resume", "none") not in ("load", "resume", "none"):
        return "Its 'resume' is none of load, resume and none."
    for name in ("prompt", "mcp_servers"):
        if not all(isinstance(each, dict) for each in acp.get(name, [])):
            return f"Its {name!r} is not a list of objects."
    if not acp.get("prompt"):
        return "It has no prompt."
    return None


def drive(
    acp: Mapping[str, Any],
    *,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    files: Mapping[str, str],
    limits: Limits,
    workspace: str,
    grace_s: float,
) -> NoReturn:
    """In a step's own process: start the agent, have the prompt worked on, and leave. RuntimeError or OSError when it cannot
    be started."""
    limits.impose()
    loop = Loop()
    loop.take_children()
    client = Client(loop, acp, cwd=cwd, workspace=workspace, grace_s=grace_s)
    _heed_signals(loop, client)
    try:
        wire = Wire(loop, starter(argv, env, cwd, limits, files), received=client.received, lost=client.lost)
    except (OSError, RuntimeError) as error:
        say({"acp": "end", "stop_reason": None, "error": RefusedError(None, processes.describe(error)).as_json()})
        raise
    done = loop.task(client.run(wire))
    done.then(loop.stop)
    loop.run()
    os._exit(done.value())


def _heed_signals(loop: Loop, client: Client) -> None:
    heeded = [signal.SIGINT, signal.SIGTERM]
    signal.pthread_sigmask(signal.SIG_BLOCK, heeded)
    fd = kernel.signal_fd(heeded)
    loop.watch(fd, READ, lambda: client.cancel(is_final=_SIGNAL.unpack(os.read(fd, _SIGNAL.size))[0] == signal.SIGTERM))


class Client:
    def __init__(self, loop: Loop, acp: Mapping[str, Any], *, cwd: str, workspace: str, grace_s: float) -> None:
        self._loop, self._acp, self._cwd, self._workspace, self._grace_s = loop, acp, cwd, workspace, grace_s
        self._wire: Any = None
        self._number = 0
        self._pending: dict[int, Any] = {}
        self._loading: Optional[int] = None  # the number of the session/load that is not answered yet
        self._prompted: Optional[str] = None  # the session that works on the prompt
        self._is_canceled = self._must_hurry = self._is_over = False
        self._gone: Optional[str] = None
        self._ended = loop.future()  # (stop reason or None, RefusedError or None)

    async def run(self, wire: Wire) -> int:
        """The whole conversation; the exit code. An agent that stays dies with this process."""
        self._wire = wire
        self._loop.task(self._converse())
        stop_reason, error = await self._ended
        if self._is_canceled and stop_reason is None:
            stop_reason, error = "cancelled", None
        say({"acp": "end", "stop_reason": stop_reason, "error": error.as_json() if error else None})
        self._is_over = True
        wire.close_input()
        await self._loop.within(wire.left, min(_LEAVE_S, self._grace_s * _LEAVE_SHARE) if self._must_hurry else _LEAVE_S)
        return 0 if stop_reason == "end_turn" else 1

    def cancel(self, *, is_final: bool) -> None:
        """Tell the agent, and give it time to answer; `is_final` when we are killed after the grace."""
        if self._is_over:
            return
        if not self._is_canceled and self._prompted is not None and self._gone is None:
            self._send({"method": "session/cancel", "params": {"sessionId": self._prompted}})
        self._is_canceled, self._must_hurry = True, self._must_hurry or is_final
        patience = self._grace_s * (_TERM_SHARE if is_final else _INTERRUPT_GRACES) if self._prompted is not None else 0.0
        self._loop.later(patience, lambda: self._ended.set((None, None)))

    # The conversation

    async def _converse(self) -> None:
        """What the protocol is made of, in order. This is the one place that knows when a turn is over."""
        try:
            able = await self._initialize()
            session = await self._open_session(able)
            if self._is_canceled:
                return
            self._prompted = session
            answer = await self._ask("session/prompt", {"sessionId": session, "prompt": self._acp["prompt"]})
            stop_reason = answer.get("stopReason")
            if not isinstance(stop_reason, str) or not stop_reason:
                raise RefusedError(None, "The agent did not say why it stopped.")
        except RefusedError as error:
            self._ended.set((None, error))
        except Exception as error:  # of ours, or of what an agent can think up: it must not leave us waiting
            self._ended.set((None, RefusedError(None, f"The protocol's client failed: {processes.describe(error)}")))
        else:
            self._ended.set((stop_reason, None))

    async def _initialize(self) -> dict[str, Any]:
        """What the agent is able to."""
        nothing = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        answer = await self._ask("initialize", {"protocolVersion": VERSION, "clientCapabilities": nothing, "clientInfo": _OURS})
        if answer.get("protocolVersion") != VERSION:
            raise RefusedError(None, f"The agent speaks version {answer.get('protocolVersion')} of the protocol, not {VERSION}.")
        if self._acp.get("auth") is not None:
            await self._ask("authenticate", {"methodId": self._acp["auth"]})
        return _object(answer, "agentCapabilities")

    async def _open_session(self, able: dict[str, Any]) -> str:
        """The id of the session, in the mode and with the model that are wanted."""
        known, answer = await self._resume(able)
        if not known:
            answer = await self._ask("session/new", self._place())
        session = known or answer.get("sessionId")
        if not isinstance(session, str) or not session:
            raise RefusedError(None, "The agent gave its session no name.")
        say({"acp": "session", "id": session, "is_resumed": bool(known)})
        await self._set_up(session, answer)
        return session

    async def _resume(self, able: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The session that was asked for and what the agent says of it; none when it cannot be gone on with."""
        session, way = self._acp.get("session"), self._acp.get("resume", "none")
        if not session or way == "none":
            return None, {}
        methods = ["session/load"] if able.get("loadSession") is True else []
        if way == "resume" and _object(able, "sessionCapabilities").get("resume") is not None:
            methods.insert(0, "session/resume")
        for method in methods:
            try:
                return session, await self._ask(method, {"sessionId": session, **self._place()})
            except RefusedError:  # it is in the journal; the caller is told by is_resumed
                continue
        return None, {}

    async def _set_up(self, session: str, answer: dict[str, Any]) -> None:
        """Set what is not so yet. What cannot be set is an error: a turn in another mode or with another model than was
        asked for may do harm or cost more."""
        mode, model = self._acp.get("mode"), self._acp.get("model")
        if mode is not None and _object(answer, "modes").get("currentModeId") != mode:
            await self._ask("session/set_mode", {"sessionId": session, "modeId": mode})
        options = [each for each in answer.get("configOptions") or () if isinstance(each, dict)]
        wanted = dict(self._acp.get("config") or {})
        if model is not None and _object(answer, "models").get("currentModelId") != model:
            names = [each["id"] for each in options if each.get("category") == "model" and isinstance(each.get("id"), str)]
            if names and not answer.get("models"):  # newer agents have it among their options, older ones a method for it
                wanted = {names[0]: model, **wanted}
            else:
                await self._ask("session/set_model", {"sessionId": session, "modelId": model})
        current = {each.get("id"): each.get("currentValue") for each in options if isinstance(each.get("id"), str)}
        for name, value in wanted.items():
            if current.get(name) != value:
                kind = {"type": "boolean"} if isinstance(value, bool) else {}
                await self._ask("session/set_config_option", {"sessionId": session, "configId": name, "value": value, **kind})

    def _place(self) -> dict[str, Any]:
        return {"cwd": self._cwd, "mcpServers": self._acp.get("mcp_servers", [])}

    # Messages

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """A request and its result; RefusedError when it was refused or the agent has gone."""
        if self._gone is not None:
            raise RefusedError(None, self._gone)
        self._number += 1
        answer = self._pending[self._number] = self._loop.future()
        if method == "session/load":
            self._loading = self._number
        self._send({"id": self._number, "method": method, "params": params})
        message = await answer
        if message.get("error") is not None:
            raise _refusal(message["error"])
        result = message.get("result")
        return result if isinstance(result, dict) else {}

    def _send(self, message: dict[str, Any]) -> None:
        whole = {"jsonrpc": "2.0", **message}
        say({"acp": "out", "message": _shown(whole)})
        try:
            self._wire.send(whole)
        except RuntimeError as error:
            self._ended.set((None, RefusedError(None, str(error))))

    def received(self, message: dict[str, Any], size: int) -> None:
        """A message of the agent's. After the end nothing it says counts."""
        if self._is_over:
            return
        method, number = message.get("method"), message.get("id")
        if method == "session/update" and number is None and self._loading is not None:
            update = _object(_object(message, "params"), "update").get("sessionUpdate")
            say({"acp": "replay", "update": update[:100] if isinstance(update, str) else None, "bytes": size})
            return
        say({"acp": "in", "message": message})
        if method is not None:
            if isinstance(number, (str, int)):
                self._answer(method, number, message.get("params"))
        elif type(number) is int and number in self._pending:
            self._loading = None if number == self._loading else self._loading
            self._pending.pop(number).set(message)

    def lost(self, why: str) -> None:
        """The agent has gone, or says nothing any more."""
        self._gone, pending, self._pending = why, self._pending, {}
        self._loading = None
        for answer in pending.values():
            answer.set({"error": {"message": why}})

    def _answer(self, method: object, number: Union[str, int], params: object) -> None:
        """Every request gets an answer: there are agents that wait for ever."""
        try:
            reply: dict[str, Any] = {"result": self._result(method, params)}
        except RefusedError as error:
            reply = {"error": {"code": error.code, "message": error.message}}
        except Exception as error:  # a name of a file that is no text, and whatever else an agent can think up
            reply = {"error": {"code": _INTERNAL, "message": processes.describe(error)}}
        self._send({"id": number, **reply})

    def _result(self, method: object, params: object) -> dict[str, Any]:
        if not isinstance(params, dict):
            params = {}
        if method == "session/request_permission":
            return {"outcome": self._outcome(params.get("options"))}
        if method == "fs/read_text_file":
            return _acp_files.read(self._workspace, params)
        if method == "fs/write_text_file":
            return _acp_files.write(self._workspace, params)
        raise RefusedError(_NOT_FOUND, "This client does not have that method.")

    def _outcome(self, options: object) -> dict[str, Any]:
        """By kind, never by name, and for once only: what is allowed always may silently change the agent's mode."""
        if not isinstance(options, list):
            raise RefusedError(_INVALID, "There are no options to choose from.")
        ids = {each.get("kind"): each.get("optionId") for each in reversed(options) if isinstance(each, dict) and _is_option(each)}
        for kind in ("allow_once",) if self._acp.get("allow") else ("reject_once", "reject_always"):
            if kind in ids and not self._is_canceled:
                return {"outcome": "selected", "optionId": ids[kind]}
        return {"outcome": "cancelled"}


def _is_option(given: dict[str, Any]) -> bool:
    return isinstance(given.get("kind"), str) and isinstance(given.get("optionId"), str)


def _object(given: dict[str, Any], name: str) -> dict[str, Any]:
    value = given.get(name)
    return value if isinstance(value, dict) else {}


def _refusal(error: object) -> RefusedError:
    """An agent's error, whatever it has made of it."""
    if not isinstance(error, dict):
        return RefusedError(None, str(error))
    message, code = error.get("message"), error.get("code")
    said = message if isinstance(message, str) and message else "The agent refused, and did not say why."
    return RefusedError(code if type(code) is int else None, said, error.get("data"))


def _shown(message: dict[str, Any]) -> dict[str, Any]:
    """As it may be read by people: of MCP servers only the names."""
    servers = _object(message, "params").get("mcpServers")
    if not servers:
        return message
    return {**message, "params": {**message["params"], "mcpServers": [{"name": server.get("name")} for server in servers]}}
