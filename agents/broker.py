"""Model APIs for sandboxes, without keys in them: a turn's token comes in, the real key goes out.

What a sandbox asks for at /anthropic, /openai and /gemini goes to the provider if it is one of the requests that a model
answers; the answer comes back as it is made. Tokens are counted as they pass. Who may ask, with whose key, is `open`'s to
say; nothing is kept here, so a broker that is started anew goes on where the last one ended. Bodies, headers and keys are
never logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode
from weakref import WeakValueDictionary

from agents.adapters.errors import classify
from agents.apis.base import Api, Route
from agents.apis.meter import Meter
from agents.apis.registry import APIS
from agents.grants import Call, Grant, Key, Refusal
from agents.upstream import Address, Answer, Failed, Headers, Upstream

logger = logging.getLogger(__name__)

BEGINS = "act-"  # each token of a turn
LEFT = 499  # the status of a call whose client went away before it was answered
MOST_OF_AN_ERROR = 1024**2
OPENING = 2  # of one sandbox at one time: it must not hold up the others' questions to the database
RECORD_S = 5.0  # how long an answer's end waits for its call to be recorded

_REQUEST_HEADERS = frozenset({"content-type", "accept", "user-agent", "idempotency-key"})
_ANSWER_HEADERS = frozenset(
    {"content-type", "retry-after", "retry-after-ms", "x-should-retry", "request-id", "x-request-id", "openai-processing-ms"}
)
_ANSWER_PREFIXES = ("anthropic-ratelimit-", "x-ratelimit-")
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,120})"')

Open = Callable[[str, str, str], Awaitable[Grant | Refusal]]  # the sandbox's key, the token, the provider
Record = Callable[[Grant, Call], Awaitable[None]]
Service = tuple[int, Headers, AsyncGenerator[bytes, None]]


@dataclass(frozen=True)
class _Request:
    api: Api
    route: Route
    method: str
    path: str
    query: str
    headers: Headers
    body: bytes


class Broker:
    """A service for `sandboxes.gateway`. `open` and `record` are asked for each request; see `agents.grants`.

    `record` is asked again after `retry_s` (seconds) when it fails: the database may be away for a moment.
    """

    def __init__(self, *, open: Open, record: Record, upstream: Upstream, retry_s: Sequence[float] = (1.0, 5.0)) -> None:
        self._open, self._record, self._upstream, self._retry_s = open, record, upstream, retry_s
        self._records: set[asyncio.Task[None]] = set()
        self._opening: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def close(self) -> None:
        """Wait for what is still to be recorded, and close the connections that are kept."""
        if self._records:
            await asyncio.wait(self._records, timeout=RECORD_S + sum(self._retry_s))
        await self._upstream.close()

    async def __call__(self, key: str, method: str, target: str, headers: Headers, body: bytes) -> Service:
        """One request of the sandbox with this key; `target` is /PROVIDER and what its API is asked for."""
        whole, _, query = target.partition("?")
        _, provider, *rest = whole.split("/", 2)
        api, path = APIS.get(provider), "/" + "".join(rest)
        if api is None:
            return _answer(404, {"error": {"message": f"asynccode: There are model APIs here: {', '.join(APIS)}."}})
        if path == "/" and method in ("GET", "HEAD"):  # Claude Code looks whether somebody is there
            return _answer(200, {})
        route = api.route(method, path)
        if route is None:
            return _refuse(api, 404, "asynccode: This is not one of the requests that are passed on to a model.")
        try:
            async with self._opening.setdefault(key, asyncio.Semaphore(OPENING)):
                grant = await self._open(key, shown(headers, query), api.provider)
        except Exception:
            logger.exception("Whether sandbox %s may ask a model could not be found out", key)
            return _refuse(api, 503, "asynccode: The database cannot be asked just now. Try again in a moment.", ("retry-after", "1"))
        if isinstance(grant, Refusal):
            return _refuse(api, grant.status, grant.sentence)
        try:
            prepared = api.prepare(path, body) if method == "POST" else b""
        except ValueError as error:
            return _refuse(api, 400, f"asynccode: {error}")
        return await self._pass_on(_Request(api, route, method, path, _query(api, query), headers, prepared), grant)

    async def _pass_on(self, request: _Request, grant: Grant) -> Service:
        api, began, status = request.api, time.monotonic(), LEFT
        try:
            answer = await self._send(request, grant.key)
            status = answer.status
            error = await _error(answer, grant.key) if status >= 400 else None
        except Failed as failed:
            await self._finish(request, grant, began, failed.status, None)
            return _refuse(api, failed.status, f"asynccode: {failed}")
        except asyncio.CancelledError:
            self._note(request, grant, began, status, None)
            raise
        said = dict(answer.headers)
        fields = [(name, value) for name, value in said.items() if name in _ANSWER_HEADERS or name.startswith(_ANSWER_PREFIXES)]
        if error is None:
            return status, fields, self._stream(request, grant, began, answer, Meter(api, said.get("content-type", "")))
        await self._finish(request, grant, began, status, None, classify(error.decode(errors="replace"), status) or "")
        return status, fields, _pieces(error)

    async def _send(self, request: _Request, key: Key) -> Answer:
        """Failed when there is no answer, or none that can be passed on."""
        try:
            address = Address.of(key.base_url or request.api.base_url)
        except ValueError as error:
            raise Failed(502, str(error)) from None
        target = address.target(request.path, request.query)
        answer = await self._upstream.send(request.method, address, target, _headers(request, key), request.body)
        if not 200 <= answer.status < 600 or 300 <= answer.status < 400:
            await answer.close()
            raise Failed(502, f"{address.authority} answered with status {answer.status}, as no model API does. Look at the key's address.")
        return answer

    async def _stream(self, request: _Request, grant: Grant, began: float, answer: Answer, meter: Meter) -> AsyncGenerator[bytes, None]:
        """Pass the answer on and count what it took, also when it is cut here or there."""
        try:
            async for piece in answer.pieces:
                meter.feed(piece)
                yield piece
            meter.end()
        except BaseException:
            self._note(request, grant, began, answer.status, meter)
            raise
        finally:
            await answer.close()
        await self._finish(request, grant, began, answer.status, meter)

    # What it took ----------------------------------------------------------------------------------------------------

    async def _finish(self, request: _Request, grant: Grant, began: float, status: int, meter: Meter | None, refused: str = "") -> None:
        """Record a call, before its answer ends: so the next request finds the budgets as they are."""
        if noted := self._note(request, grant, began, status, meter, refused):
            await asyncio.wait({noted}, timeout=RECORD_S)

    def _note(
        self, request: _Request, grant: Grant, began: float, status: int, meter: Meter | None, refused: str = ""
    ) -> asyncio.Task[None] | None:
        """Record a call in a task of its own, which nobody's leaving cancels."""
        if not request.route.is_metered:
            return None
        usage = meter.settle(request.body) if meter else None
        found = _MODEL.search(request.body, 0, 65536)
        call = Call(
            model=usage.model if usage else "",
            asked=request.route.model or (found[1].decode("utf-8", "replace") if found else ""),
            status=status,
            is_whole=usage.is_whole if usage else status != LEFT,
            seconds=time.monotonic() - began,
            refused=refused,
            input_tokens=usage.input_tokens if usage else 0,
            cached_tokens=usage.cached_tokens if usage else 0,
            cache_write_tokens=usage.cache_write_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
            reasoning_tokens=usage.reasoning_tokens if usage else 0,
        )
        task = asyncio.create_task(self._store(grant, call))
        self._records.add(task)
        task.add_done_callback(self._records.discard)
        return task

    async def _store(self, grant: Grant, call: Call) -> None:
        for pause in (*self._retry_s, None):
            try:
                await self._record(grant, call)
                return
            except Exception:
                if pause is None:
                    logger.exception("A call of run %d (%d tokens) was not recorded", grant.run_id, call.input_tokens + call.output_tokens)
                    return
                await asyncio.sleep(pause)


def shown(headers: Headers, query: str) -> str:
    """What is shown instead of a key, in any provider's way; "" when nothing is."""
    said = {name.lower(): value.strip() for name, value in headers}
    bearer = re.sub("(?i)^bearer +", "", said.get("authorization", ""))
    places = [said.get("x-api-key", ""), bearer, said.get("x-goog-api-key", ""), dict(parse_qsl(query)).get("key", "")]
    return next((place for place in places if place.startswith(BEGINS)), "")


def _query(api: Api, query: str) -> str:
    return urlencode([(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name in api.parameters])


def _headers(request: _Request, key: Key) -> Headers:
    """What the provider gets: what is on the list, and the key."""
    wanted = _REQUEST_HEADERS | request.api.request_headers
    found: dict[str, str] = {}
    for name, value in request.headers:
        if (name := name.lower()) in wanted:
            found[name] = f"{found[name]},{value}" if name in found else value
    request.api.authorize(key, found)
    return list(found.items())


async def _error(answer: Answer, key: Key) -> bytes:
    """The provider's words, in which a key is never repeated."""
    body = bytearray()
    try:
        async for piece in answer.pieces:
            body += piece
            if len(body) > MOST_OF_AN_ERROR:
                break
    finally:
        await answer.close()
    return bytes(body).replace(key.secret.encode(), b"[key]")


def _answer(status: int, content: object, *fields: tuple[str, str]) -> Service:
    return status, [("content-type", "application/json"), *fields], _pieces(json.dumps(content, ensure_ascii=False).encode())


def _refuse(api: Api, status: int, sentence: str, *fields: tuple[str, str]) -> Service:
    return _answer(status, api.error(status, sentence), *fields)


async def _pieces(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
