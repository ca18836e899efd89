"""A run's events as they are written: server-sent events, from a seq on, without gap or double.

As with sockets (web/consumers.py), the channel layer only says that there is more: what is sent is read from the database, which is
also looked at every LOOK_S, since a nudge may be lost. A stream subscribes first and reads then, so nothing falls between.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db.models import Exists
from django.http import StreamingHttpResponse
from ninja import Header, Router
from redis.exceptions import RedisError

from tasks.api import events
from tasks.api.auth import Request
from tasks.api.errors import too_many
from tasks.api.events import After
from tasks.api.finding import find_run
from tasks.api.paging import BIGGEST, Id
from tasks.models import ApiToken, Run
from tasks.running import nudge
from tasks.running.lifecycle import OVER

logger = logging.getLogger(__name__)
router = Router(tags=["events"])

MOST_STREAMS = 20  # of a user at one time, in one web process
AT_ONCE = 200  # events of one look
LOOK_S = 15.0  # also how often a silent stream says that it is there
COALESCE_S = 0.1
_open: Counter[int] = Counter()  # streams by user
_LastEventId = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, le=BIGGEST, description="The seq to go on after, as browsers send it; counts before `after`."),
]
_EVENT = {"type": "object", "required": ["data"], "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
_AS_STREAM: dict[str, Any] = {
    "responses": {
        200: {
            "description": "Each event has its seq as `id` and an Event as `data`; the last one is named `end`.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        }
    }
}


@router.get("/runs/{int:run_id}/events/stream", openapi_extra=_AS_STREAM, operation_id="stream_events", summary="Follow a run's events")
def stream_events(request: Request, run_id: Id, after: After = 0, last_event_id: _LastEventId = None) -> StreamingHttpResponse:
    """Events as they are written. When the run is over, or waits for you, and all is sent, `event: end` comes with
    `{"status", "last"}`, and the stream ends. It also ends, without that, when the token is revoked."""
    run = find_run(request, run_id)
    if _open[request.user.pk] >= MOST_STREAMS:
        raise too_many(int(LOOK_S), f"You have {MOST_STREAMS} streams open. Close one first.")
    follow = _follow(run.pk, request.auth, after if last_event_id is None else last_event_id)
    response = StreamingHttpResponse(follow, content_type="text/event-stream; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # for nginx
    return response


async def _follow(run_id: int, token: ApiToken, last: int) -> AsyncIterator[str]:
    if _open[token.user_id] >= MOST_STREAMS:  # many came at the same time
        return
    _open[token.user_id] += 1
    try:
        async with _nudges(run_id) as may_be_news:
            yield ": hello\n\n"
            while not _has_left():
                may_be_news.clear()
                status, found = await database_sync_to_async(_look)(run_id, token, last)
                if status is None:
                    return
                for seq, text in found:
                    yield f"id: {seq}\ndata: {text}\n\n"
                    last = seq
                if found:
                    continue
                if status in OVER:
                    yield f"event: end\ndata: {json.dumps({'status': status, 'last': last})}\n\n"
                    return
                await asyncio.sleep(COALESCE_S)
                if not await _wait(may_be_news):
                    yield ": still here\n\n"
    finally:
        _open[token.user_id] -= 1
        if not _open[token.user_id]:
            del _open[token.user_id]


def _has_left() -> bool:
    """Whether the client has left, and what was asked of Redis just then has swallowed that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _look(run_id: int, token: ApiToken, last: int) -> tuple[str | None, list[tuple[int, str]]]:
    """How the run stands, then the events after `last`: none of a run that was over before are all there will be. The status is
    None when the token, or the run, is not there any more."""
    is_good = Exists(ApiToken.objects.valid().filter(pk=token.pk))
    status = Run.objects.visible_to(token.user).filter(is_good, pk=run_id).values_list("status", flat=True).first()
    return status, [] if status is None else events.read(run_id, last, AT_ONCE)


async def _wait(may_be_news: asyncio.Event) -> bool:
    """Until there may be news; False when it was only time to look."""
    try:
        async with asyncio.timeout(LOOK_S):
            await may_be_news.wait()
    except TimeoutError:
        return False
    return True


@asynccontextmanager
async def _nudges(run_id: int) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the run's group is told of news. Without Redis it never is."""
    layer, group, may_be_news = get_channel_layer(), nudge.run_group(run_id), asyncio.Event()
    try:
        channel = await layer.new_channel()
        await layer.group_add(group, channel)
    except (RedisError, OSError) as error:
        logger.info("A stream of run %s is not nudged (%s); it looks by itself.", run_id, error)
        yield may_be_news
        return
    listening = asyncio.create_task(_listen(layer, channel, may_be_news))
    try:
        yield may_be_news
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        try:
            await layer.group_discard(group, channel)
        except (RedisError, OSError) as error:
            logger.info("A stream could not leave its group (%s); it ends with the connection.", error)


async def _listen(layer: Any, channel: str, may_be_news: asyncio.Event) -> None:
    while True:
        await layer.receive(channel)
        may_be_news.set()
