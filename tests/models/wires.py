"""The four formats of model APIs: from a request to what is asked, from a reply to the bytes the vendors would send.

Anthropic Messages, OpenAI Responses and Chat Completions, Gemini. The shapes are those that the pinned agents were seen to read.
"""

from __future__ import annotations

import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.models.scripts import Reply, Tools, Usage, choose

_NOT_THE_USERS = ("<system-reminder>", "<environment_context>", "<user_instructions>", "<session_context>", "# AGENTS.md instructions")
GO_ON = "Go on where you were cut off."  # tasks/running/jobs.py
_numbers = itertools.count(1)

Pieces = Callable[[Reply], AsyncIterator[str]]
"""The pieces of a reply's text as they are due."""


@dataclass(frozen=True)
class Ask:
    """A request: the newest prompt, how many tool calls were answered since then, the tools on offer, the schema that the answer
    must have or None, and whether it is to be streamed."""

    model: str
    prompt: str
    answered: int
    tools: Tools
    schema: Mapping[str, Any] | None
    streams: bool


class Wire(ABC):
    name: str
    path: re.Pattern[str]
    refusals: Mapping[str, tuple[int, dict[str, Any]]]

    @abstractmethod
    def key(self, headers: Mapping[str, str]) -> str: ...

    @abstractmethod
    def ask(self, path: str, body: dict[str, Any]) -> Ask: ...

    @abstractmethod
    def stream(self, ask: Ask, reply: Reply, pieces: Pieces) -> AsyncIterator[bytes]: ...

    @abstractmethod
    def whole(self, ask: Ask, reply: Reply) -> dict[str, Any]: ...

    @abstractmethod
    def models(self, names: Iterable[str]) -> dict[str, Any]: ...

    def refusal(self, name: str, model: str) -> tuple[int, dict[str, Any]]:
        """Status and body of an error, as the vendor words it."""
        status, body = self.refusals[name]
        return status, json.loads(json.dumps(body).replace("MODEL", model))


def _prompted(turns: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """The newest prompt and the tool results since, from (text of the user's, number of results) as they came.

    What says only that it is to go on is no prompt of its own.
    """
    answered = 0
    for text, results in reversed(turns):
        answered += results
        if text and GO_ON not in text:
            return text, answered
    return "", answered


def _users(texts: Iterable[str]) -> list[tuple[str, int]]:
    """Each text that is the user's: what got no answer goes into one message with what comes next."""
    return [(text, 0) for text in texts if text.strip() and not text.lstrip().startswith(_NOT_THE_USERS)]


def _event(data: dict[str, Any], name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def _id(prefix: str) -> str:
    return f"{prefix}{next(_numbers):06}"


class Anthropic(Wire):
    """https://docs.anthropic.com/en/api/messages-streaming"""

    name = "anthropic"
    path = re.compile(r"/v1/messages(/count_tokens)?$")

    @staticmethod
    def _error(status: int, kind: str, message: str) -> tuple[int, dict[str, Any]]:
        return status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}

    refusals = {
        "auth": _error(401, "authentication_error", "invalid x-api-key"),
        "credit": _error(
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
        ),
        "rate_limit": _error(429, "rate_limit_error", "This request would exceed the rate limit for your organization."),
        "overloaded": _error(529, "overloaded_error", "Overloaded"),
        "model": _error(404, "not_found_error", "model: MODEL"),
        "context": _error(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        "broken": _error(500, "api_error", "Internal server error"),
    }

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")

    def ask(self, path: str, body: dict[str, Any]) -> Ask:
        turns: list[tuple[str, int]] = []
        for message in body.get("messages", ()):
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            if message["role"] == "user":
                turns.append(("", sum(block["type"] == "tool_result" for block in blocks)))
                turns += _users(block["text"] for block in blocks if block["type"] == "text")
        tools = {tool["name"]: tool.get("input_schema", {}).get("properties", {}) for tool in body.get("tools", ())}
        schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
        return Ask(body.get("model", ""), *_prompted(turns), tools, schema, bool(body.get("stream")))

    @staticmethod
    def _usage(usage: Usage) -> dict[str, int]:
        return {
            "input_tokens": usage.input - usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": usage.output,
        }

    async def stream(self, ask: Ask, reply: Reply, pieces: Pieces) -> AsyncIterator[bytes]:
        message = self.whole(ask, Reply(usage=reply.usage)) | {"content": [], "stop_reason": None}
        message["usage"] = message["usage"] | {"output_tokens": 1}
        yield _event({"type": "message_start", "message": message}, "message_start")
        index = 0

        def block(kind: str, **data: Any) -> bytes:
            return _event({"type": f"content_block_{kind}", "index": index, **data}, f"content_block_{kind}")

        if reply.thought:
            yield block("start", content_block={"type": "thinking", "thinking": "", "signature": ""})
            yield block("delta", delta={"type": "thinking_delta", "thinking": reply.thought})
            yield block("delta", delta={"type": "signature_delta", "signature": "c2ln"})
            yield block("stop")
            index += 1
        if reply.parts:
            yield block("start", content_block={"type": "text", "text": ""})
            async for piece in pieces(reply):
                yield block("delta", delta={"type": "text_delta", "text": piece})
            yield block("stop")
            index += 1
        if reply.call:
            name, arguments = choose(reply.call, ask.tools)
            yield block("start", content_block={"type": "tool_use", "id": _id("toolu_"), "name": name, "input": {}})
            yield block("delta", delta={"type": "input_json_delta", "partial_json": json.dumps(arguments)})
            yield block("stop")
        delta = {"stop_reason": "tool_use" if reply.call else "end_turn", "stop_sequence": None}
        yield _event({"type": "message_delta", "delta": delta, "usage": self._usage(reply.usage)}, "message_delta")
        yield _event({"type": "message_stop"}, "message_stop")

    def whole(self, ask: Ask, reply: Reply) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}]
        if reply.call:
            name, arguments = choose(reply.call, ask.tools)
            content.append({"type": "tool_use", "id": _id("toolu_"), "name": name, "input": arguments})
        return {
            "id": _id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": ask.model,
            "content": content,
            "stop_reason": "tool_use" if reply.call else "end_turn",
            "stop_sequence": None,
            "usage": self._usage(reply.usage),
        }

    def models(self, names: Iterable[str]) -> dict[str, Any]:
        data = [{"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names]
        return {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}


class _OpenAI(Wire):
    @staticmethod
    def _error(status: int, kind: str, code: str | None, message: str) -> tuple[int, dict[str, Any]]:
        return status, {"error": {"message": message, "type": kind, "param": None, "code": code}}

    refusals = {
        "auth": _error(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
        "credit": _error(
            429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan and billing details."
        ),
        "rate_limit": _error(
            429, "requests", "rate_limit_exceeded", "Rate limit reached for MODEL on requests per min (RPM). Please try again in 1s."
        ),
        "overloaded": _error(503, "server_error", "server_is_overloaded", "Our servers are currently overloaded. Please try again later."),
        "model": _error(
            404, "invalid_request_error", "model_not_found", "The model `MODEL` does not exist or you do not have access to it."
        ),
        "context": _error(
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
        ),
        "broken": _error(500, "server_error", None, "The server had an error while processing your request. Sorry about that!"),
    }

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("authorization", "").removeprefix("Bearer ")

    def models(self, names: Iterable[str]) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model", "created": 1760000000, "owned_by": "system"} for name in names]}


class Responses(_OpenAI):
    """https://platform.openai.com/docs/api-reference/responses-streaming"""

    name = "responses"
    path = re.compile(r"/v1/responses$")

    def ask(self, path: str, body: dict[str, Any]) -> Ask:
        items = body.get("input", ())
        turns: list[tuple[str, int]] = []
        offered = list(body.get("tools", ()))
        for item in [{"type": "message", "role": "user", "content": items}] if isinstance(items, str) else items:
            content, kind = item.get("content", ""), item.get("type", "message")
            if kind == "additional_tools":
                offered += item["tools"]
            elif kind == "message" and item["role"] == "user":
                texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
                turns += _users(texts)
            elif kind.endswith("_output"):
                turns.append(("", 1))
        tools: dict[str, Mapping[str, Any]] = {}
        while offered:
            tool = offered.pop(0)
            if tool["type"] == "namespace":
                offered += tool["tools"]
            else:
                tools[tool.get("name") or tool["type"]] = (tool.get("parameters") or {}).get("properties", {})
        form = (body.get("text") or {}).get("format") or {}
        return Ask(body.get("model", ""), *_prompted(turns), tools, form.get("schema"), bool(body.get("stream")))

    async def stream(self, ask: Ask, reply: Reply, pieces: Pieces) -> AsyncIterator[bytes]:
        number = itertools.count()
        answer = self.whole(ask, reply)
        output = answer["output"]

        def event(kind: str, **data: Any) -> bytes:
            return _event({"type": f"response.{kind}", "sequence_number": next(number), **data}, f"response.{kind}")

        yield event("created", response=answer | {"status": "in_progress", "output": [], "usage": None})
        for index, item in enumerate(output):
            at = {"output_index": index, "item_id": item["id"]}
            match item["type"]:
                case "reasoning":
                    yield event("output_item.added", output_index=index, item=item | {"summary": []})
                    yield event("reasoning_summary_part.added", **at, summary_index=0, part={"type": "summary_text", "text": ""})
                    yield event("reasoning_summary_text.delta", **at, summary_index=0, delta=reply.thought)
                    yield event("reasoning_summary_text.done", **at, summary_index=0, text=reply.thought)
                    yield event("reasoning_summary_part.done", **at, summary_index=0, part=item["summary"][0])
                case "message":
                    yield event("output_item.added", output_index=index, item=item | {"content": [], "status": "in_progress"})
                    yield event("content_part.added", **at, content_index=0, part={"type": "output_text", "text": "", "annotations": []})
                    async for piece in pieces(reply):
                        yield event("output_text.delta", **at, content_index=0, delta=piece)
                    yield event("output_text.done", **at, content_index=0, text=reply.text)
                    yield event("content_part.done", **at, content_index=0, part=item["content"][0])
                case "function_call":
                    yield event("output_item.added", output_index=index, item=item | {"arguments": "", "status": "in_progress"})
                    yield event("function_call_arguments.delta", **at, delta=item["arguments"])
                    yield event("function_call_arguments.done", **at, arguments=item["arguments"])
                case _:
                    yield event("output_item.added", output_index=index, item=item | {"input": "", "status": "in_progress"})
                    yield event("custom_tool_call_input.delta", **at, delta=item["input"])
                    yield event("custom_tool_call_input.done", **at, input=item["input"])
            yield event("output_item.done", output_index=index, item=item)
        yield event("completed", response=answer)

    def whole(self, ask: Ask, reply: Reply) -> dict[str, Any]:
        output: list[dict[str, Any]] = []
        if reply.thought:
            summary = [{"type": "summary_text", "text": reply.thought}]
            output.append({"type": "reasoning", "id": _id("rs_"), "summary": summary, "encrypted_content": "c2ln"})
        if reply.parts:
            content = [{"type": "output_text", "text": reply.text, "annotations": []}]
            output.append({"type": "message", "id": _id("msg_"), "role": "assistant", "status": "completed", "content": content})
        if reply.call:
            name, arguments = choose(reply.call, ask.tools)
            call: dict[str, Any] = {"id": _id("fc_"), "call_id": _id("call_"), "name": name, "status": "completed"}
            if isinstance(arguments, str):
                output.append({"type": "custom_tool_call", **call, "input": arguments})
            else:
                output.append({"type": "function_call", **call, "arguments": json.dumps(arguments)})
        usage = reply.usage
        return {
            "id": _id("resp_"),
            "object": "response",
            "created_at": 1760000000,
            "status": "completed",
            "model": ask.model,
            "output": output,
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": usage.input,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.output,
                "output_tokens_details": {"reasoning_tokens": usage.thought},
                "total_tokens": usage.input + usage.output,
            },
        }


class Chat(_OpenAI):
    """https://platform.openai.com/docs/api-reference/chat-streaming"""

    name = "chat"
    path = re.compile(r"/v1/chat/completions$")

    def ask(self, path: str, body: dict[str, Any]) -> Ask:
        turns: list[tuple[str, int]] = []
        for message in body.get("messages", ()):
            content = message.get("content") or ""
            if message["role"] == "user":
                texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
                turns += _users(texts)
            elif message["role"] == "tool":
                turns.append(("", 1))
        functions = [tool["function"] for tool in body.get("tools") or () if tool["type"] == "function"]
        tools = {function["name"]: (function.get("parameters") or {}).get("properties", {}) for function in functions}
        schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
        return Ask(body.get("model", ""), *_prompted(turns), tools, schema, bool(body.get("stream")))

    @staticmethod
    def _usage(usage: Usage) -> dict[str, Any]:
        return {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
            "completion_tokens_details": {"reasoning_tokens": usage.thought},
        }

    @staticmethod
    def _calls(ask: Ask, reply: Reply) -> list[dict[str, Any]]:
        if not reply.call:
            return []
        name, arguments = choose(reply.call, ask.tools)
        return [{"index": 0, "id": _id("call_"), "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}]

    async def stream(self, ask: Ask, reply: Reply, pieces: Pieces) -> AsyncIterator[bytes]:
        head = {"id": _id("chatcmpl-"), "object": "chat.completion.chunk", "created": 1760000000, "model": ask.model}

        def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
            return _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

        yield chunk({"role": "assistant", "content": ""})
        if reply.thought:
            yield chunk({"reasoning_content": reply.thought})
        async for piece in pieces(reply):
            yield chunk({"content": piece})
        if calls := self._calls(ask, reply):
            yield chunk({"tool_calls": calls})
        yield chunk({}, "tool_calls" if reply.call else "stop")
        yield _event(head | {"choices": [], "usage": self._usage(reply.usage)})
        yield b"data: [DONE]\n\n"

    def whole(self, ask: Ask, reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if calls := self._calls(ask, reply):
            message["tool_calls"] = calls
        return {
            "id": _id("chatcmpl-"),
            "object": "chat.completion",
            "created": 1760000000,
            "model": ask.model,
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if reply.call else "stop"}],
            "usage": self._usage(reply.usage),
        }


class Gemini(Wire):
    """https://ai.google.dev/api/generate-content"""

    name = "gemini"
    path = re.compile(r"/v1(?:beta)?/models/([^/:]+):(generateContent|streamGenerateContent|countTokens)$")

    @staticmethod
    def _error(code: int, status: str, message: str, *details: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return code, {"error": {"code": code, "message": message, "status": status, "details": list(details)}}

    refusals = {
        "auth": _error(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"},
        ),
        "credit": _error(
            429,
            "RESOURCE_EXHAUSTED",
            "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.",
        ),
        "rate_limit": _error(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota. Please retry in 1s.",
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
        ),
        "overloaded": _error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        "model": _error(404, "NOT_FOUND", "models/MODEL is not found for API version v1beta, or is not supported for generateContent."),
        "context": _error(
            400, "INVALID_ARGUMENT", "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576)."
        ),
        "broken": _error(500, "INTERNAL", "An internal error has occurred. Please retry."),
    }

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-goog-api-key") or headers.get("authorization", "").removeprefix("Bearer ")

    def ask(self, path: str, body: dict[str, Any]) -> Ask:
        turns: list[tuple[str, int]] = []
        for content in body.get("contents", ()):
            if content.get("role", "user") != "model":
                parts = content["parts"]
                turns.append(("", sum("functionResponse" in part for part in parts)))
                turns += _users(part.get("text", "") for part in parts)
        tools = {}
        for function in (f for tool in body.get("tools", ()) for f in tool.get("functionDeclarations", ())):
            tools[function["name"]] = (function.get("parametersJsonSchema") or function.get("parameters") or {}).get("properties", {})
        config = body.get("generationConfig") or {}
        found = self.path.search(path)
        model, verb = found.groups() if found else ("", "")
        schema = config.get("responseJsonSchema") or config.get("responseSchema")
        return Ask(model, *_prompted(turns), tools, schema, verb == "streamGenerateContent")

    @staticmethod
    def _usage(usage: Usage) -> dict[str, int]:
        return {
            "promptTokenCount": usage.input,
            "cachedContentTokenCount": usage.cached,
            "candidatesTokenCount": usage.output - usage.thought,
            "thoughtsTokenCount": usage.thought,
            "totalTokenCount": usage.input + usage.output,
        }

    @staticmethod
    def _call(ask: Ask, reply: Reply) -> list[dict[str, Any]]:
        if not reply.call:
            return []
        name, arguments = choose(reply.call, ask.tools)
        return [{"functionCall": {"name": name, "args": arguments}}]

    def _chunk(self, ask: Ask, parts: list[dict[str, Any]], usage: Usage | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
        if usage is None:
            return {"candidates": [candidate], "modelVersion": ask.model}
        return {"candidates": [candidate | {"finishReason": "STOP"}], "usageMetadata": self._usage(usage), "modelVersion": ask.model}

    async def stream(self, ask: Ask, reply: Reply, pieces: Pieces) -> AsyncIterator[bytes]:
        if reply.thought:
            yield _event(self._chunk(ask, [{"text": reply.thought, "thought": True}]))
        async for piece in pieces(reply):
            yield _event(self._chunk(ask, [{"text": piece}]))
        yield _event(self._chunk(ask, self._call(ask, reply) or [{"text": ""}], reply.usage))

    def whole(self, ask: Ask, reply: Reply) -> dict[str, Any]:
        return self._chunk(ask, [{"text": reply.text}, *self._call(ask, reply)], reply.usage)

    def models(self, names: Iterable[str]) -> dict[str, Any]:
        return {"models": [{"name": f"models/{name}", "displayName": name} for name in names]}


WIRES: Sequence[Wire] = (Anthropic(), Responses(), Chat(), Gemini())


def fill(schema: Mapping[str, Any]) -> Any:
    """The least that fits a JSON schema: what questions on the side (who speaks next, a title) are answered with."""
    if schema.get("enum"):
        return schema["enum"][0]
    match str(schema.get("type", "string")).lower():
        case "object":
            return {name: fill(inner) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return []
        case "integer" | "number":
            return 0
        case "boolean":
            return False
        case _:
            return "A title"
