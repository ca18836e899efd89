"""Nudges: what Redis carries. Rows are the truth, so a nudge that cannot be sent is never an error; reconcile sends it again."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import django_rq
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def run_group(run_id: int) -> str:
    return f"run.{run_id}"


def user_group(user_id: int) -> str:
    return f"user.{user_id}"


def enqueue(queue: str, job: str, *args: Any) -> None:
    """Ask a worker to do a job of tasks/running/jobs.py once the present transaction is committed; "github.NAME" is one of
    tasks/github/jobs.py.

    The job is named, not imported: whoever nudges stands below the jobs.
    """
    transaction.on_commit(lambda: enqueue_now(queue, job, *args))


def enqueue_now(queue: str, job: str, *args: Any) -> None:
    room, _, name = job.rpartition(".")
    try:
        django_rq.get_queue(queue).enqueue(f"tasks.{room or 'running'}.jobs.{name}", *args)
    except (RedisError, OSError) as error:
        logger.warning("%s%r was not enqueued (%s); reconcile will.", job, args, error)


def dispatch() -> None:
    enqueue(settings.QUEUE_RUNS, "dispatch")


def tell(groups: Iterable[str]) -> None:
    """Tell the pages that watch these groups that there is more, once the present transaction is committed."""
    names = list(groups)
    transaction.on_commit(lambda: _tell(names))


def _tell(groups: list[str]) -> None:
    async_to_sync(tell_async)(groups)


async def tell_async(groups: Iterable[str]) -> None:
    layer = get_channel_layer()
    try:
        for group in groups:
            await layer.group_send(group, {"type": "more"})
    except (RedisError, OSError) as error:
        logger.warning("Pages were not told of news (%s); they will see it at their next look.", error)
