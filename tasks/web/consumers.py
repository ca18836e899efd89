"""Sockets. The channel layer only says that there is more: what a page is sent is read from the database.

Every consumer subscribes first and reads then, so nothing falls between. A nudge may be lost (Redis is no truth), so
each looks by itself every LOOK_S seconds too; whoever has signed out by then, or may not come in any more, is shown the
door. Nothing is pushed faster than the browser says it has taken it: after each message it answers {"ack": true}.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib import auth
from django.db.models import Case, Count, Exists, OuterRef, Q, Subquery, When
from django.db.models.functions import JSONObject
from django.http import HttpRequest
from django.template.loader import render_to_string
from redis.exceptions import RedisError

from tasks.models import ACTIVE, Check, CheckStatus, Patch, Run, RunStatus, Task, Turn, User
from tasks.running import nudge
from tasks.web import log
from tasks.web.activity import Endings, activity_of
from tasks.web.pull_chips import FIELDS

logger = logging.getLogger(__name__)

_OF_PULL = tuple(f"pull_request__{name}" for name in FIELDS)
_OF_CHECK = ("status", "run", "run__status", "base__status")
COALESCE_S = 0.15
LOOK_S = 15.0
GONE = 4404


class Consumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # (Channels has no types)
    """A socket of one signed-in user that sends what `news` gives, whenever there may be some."""

    user: User

    def groups_to_watch(self) -> list[str]:
        """The groups whose nudges matter here; [] when this user may not see it (any more). Reads the database."""
        raise NotImplementedError

    def news(self) -> dict[str, Any] | None:
        """The next message, None when there is no news. Reads the database."""
        raise NotImplementedError

    @property
    def pk(self) -> int:
        return int(self.scope["url_route"]["kwargs"]["pk"])

    async def connect(self) -> None:
        self._watched: set[str] = set()
        self._may_be_news, self._is_taken = asyncio.Event(), asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._asked_at = time.monotonic()
        self.user = self.scope["user"]
        if not self.user.is_authenticated or not await self._watch():
            await self.close(GONE)
            return
        await self.accept()
        self._pump = asyncio.create_task(self._send_news())

    async def disconnect(self, code: int) -> None:
        if self._pump is not None:
            self._pump.cancel()
        try:
            for group in self._watched:
                await self.channel_layer.group_discard(group, self.channel_name)
        except (RedisError, OSError) as error:
            logger.info("A socket could not leave its groups (%s); they end with the connection.", error)

    async def more(self, message: dict[str, Any]) -> None:
        """A nudge."""
        self._may_be_news.set()

    async def receive_json(self, content: Any, **more: Any) -> None:
        self._is_taken.set()

    async def _watch(self) -> bool:
        """Subscribe to what is to be watched now; False when this user may not see it."""
        groups = set(await database_sync_to_async(self.groups_to_watch)())
        for group in groups - self._watched:
            await self.channel_layer.group_add(group, self.channel_name)
        self._watched |= groups
        return bool(groups)

    async def _is_welcome(self) -> bool:
        """Whether the user is signed in still, by this very session: asked once in LOOK_S."""
        if time.monotonic() - self._asked_at < LOOK_S:
            return True
        self._asked_at = time.monotonic()
        return bool(await database_sync_to_async(self._is_signed_in)())

    def _is_signed_in(self) -> bool:
        session = self.scope["session"]
        request = HttpRequest()
        request.session = session.__class__(session.session_key)  # read anew; `session` is a proxy
        user = auth.get_user(request)
        return user.is_authenticated and user.pk == self.user.pk

    async def _send_news(self) -> None:
        try:
            while await self._is_welcome() and await self._watch():
                self._may_be_news.clear()
                while (message := await database_sync_to_async(self.news)()) is not None:
                    self._is_taken.clear()
                    await self.send_json(message)
                    await self._is_taken.wait()
                    if not await self._is_welcome():  # a run that never pauses is no way to stay
                        return await self.close(GONE)  # type: ignore[no-any-return]
                await asyncio.sleep(COALESCE_S)
                await self._wait()
            await self.close(GONE)
        except Exception:  # the browser connects anew, and says from where
            logger.exception("A socket of %s failed.", self.scope["path"])
            await self.close(1011)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._may_be_news.wait()
        except TimeoutError:
            return


class UserConsumer(Consumer):
    """Says that some of the user's runs have moved: {"news": true, "activity": {"running", "queued"}, "ended": [see Endings.look]}."""

    _seen: list[Any] | None = None

    async def connect(self) -> None:
        self._endings = Endings()
        await super().connect()

    def groups_to_watch(self) -> list[str]:
        return [nudge.user_group(self.user.pk)]

    def news(self) -> dict[str, Any] | None:
        patch = Patch.objects.filter(run=OuterRef("pk")).order_by("-turn__number", "-kind").values("sha256")[:1]
        newest = Run.objects.visible_to(self.user).order_by("-pk")[:100]
        so_far = Case(When(status__in=ACTIVE, then=Subquery(patch)))  # looked up for those at work only; the others' are known
        fields = ("pk", "status", "stage", "stop_requested_at", "task__archived_at", *_OF_PULL)
        news = self._if_new(list(newest.values_list(*fields, so_far)))
        return news and news | {"activity": activity_of(self.user), "ended": self._endings.look(self.user)}

    def _if_new(self, seen: list[Any]) -> dict[str, Any] | None:
        """News when what is seen differs from before. The page was made before the socket was there, so the first look is news."""
        if seen == self._seen:
            return None
        self._seen = seen
        return {"news": True}


class TaskConsumer(UserConsumer):
    """Says that some run of one task has moved: status, stage, patch, tokens, follow-ups, checks."""

    def groups_to_watch(self) -> list[str]:
        task = Task.objects.visible_to(self.user).filter(pk=self.pk).first()
        if task is None:
            return []
        runs = task.runs.values_list("pk", flat=True)
        return [nudge.user_group(self.user.pk), *(nudge.run_group(pk) for pk in runs)]

    def news(self) -> dict[str, Any] | None:
        runs = Run.objects.visible_to(self.user).filter(task=self.pk)
        is_where = ("pk", "status", "stage", "stop_requested_at", "generation", "task__base_commit", "task__archived_at")
        has_cost = ("input_tokens", "output_tokens", "cost_usd", *_OF_PULL)
        states = runs.order_by("pk").values_list(*is_where, *has_cost)
        patches = Patch.objects.filter(run__in=runs).order_by("pk").values_list("pk", "sha256")
        turns = Turn.objects.filter(run__in=runs).order_by("pk").values_list("pk", "status")
        checks = Check.objects.filter(patch__run__in=runs).order_by("pk").values_list("pk", *_OF_CHECK)
        return self._if_new([*states, *patches, *turns, *checks])


class RunConsumer(Consumer):
    """A run's events from `?after=SEQ` on, in order, without gap or double, as HTML.

    Messages: {"after": seq, "seq": seq, "html": fragments of the events between (which may be none), "is_news": whether
    what stands beside the events has changed: the status, the turns that wait, the patch, its check, the pull request}.
    """

    _state: tuple[Any, ...] | None = None

    async def connect(self) -> None:
        after = parse_qs(self.scope["query_string"].decode(errors="replace")).get("after", ["0"])[0]
        self._seq = int(after) if after.isdecimal() and len(after) < 19 else 0
        await super().connect()

    def groups_to_watch(self) -> list[str]:
        is_checked = Exists(Check.objects.filter(patch__run=OuterRef("pk"), status=CheckStatus.UNDER_WAY))
        found = Run.objects.visible_to(self.user).filter(pk=self.pk).values_list(is_checked, flat=True).first()
        if found is None:
            return []
        # The run of a check has a group of its own, in which each of its lines is told; when it moves, the user is told.
        return [nudge.run_group(self.pk), *([nudge.user_group(self.user.pk)] if found else [])]

    def news(self) -> dict[str, Any] | None:
        related = ("task", "pull_request", "publication")
        run = Run.objects.visible_to(self.user).select_related(*related).filter(pk=self.pk).first()
        if run is None:
            return None
        state = (run.status, run.stage, run.stop_requested_at, run.generation, run.task.archived_at, _beside(run), *_on_github(run))
        # The page was made before the socket was there, so the first look is news.
        is_news, self._state = state != self._state, state
        page = log.after(run, self._seq) if run.next_seq > self._seq + 1 else None
        if not is_news and (page is None or page.last == self._seq):
            return None
        message = {"after": self._seq, "seq": self._seq, "html": "", "is_news": is_news}
        if page is not None:
            html = render_to_string("tasks/events.html", {"page": page})
            message |= {"seq": page.last, "html": html, "is_news": is_news or page.has_status}
            self._seq = page.last
        return message


def _beside(run: Run) -> Any:
    """How many turns wait, and how the newest check stands."""
    waiting = Count("turns", filter=Q(turns__status=RunStatus.QUEUED))
    newest = Check.objects.filter(patch__run=OuterRef("pk")).order_by("-pk")
    check = newest.values(row=JSONObject(**{name: name for name in ("pk", *_OF_CHECK)}))[:1]
    return Run.objects.filter(pk=run.pk).annotate(waiting=waiting, said=Subquery(check)).values_list("waiting", "said").first()


def _on_github(run: Run) -> tuple[Any, ...]:
    """What the page shows of a run's way to GitHub, and of its pull request there; each may not be there."""
    publication, pull = getattr(run, "publication", None), getattr(run, "pull_request", None)
    published = (publication.pushed, publication.error, publication.update_after) if publication else ()
    return (*published, *(getattr(pull, name) for name in FIELDS if pull))
