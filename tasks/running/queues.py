"""What is in Redis: the queues of all hosts, who works on them, and the jobs that failed. Redis may be lost at any time; reconcile then
sends again what rows want, so nothing here is more than a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from redis import Redis
from rq import Queue, Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.worker import BaseWorker

from tasks.running import condition

MOST_FAILED = 50
MOST_WORKERS = 200
_MOST_WHAT = 200  # characters of a call
_MOST_ERROR = 2000  # characters, the last of them


@dataclass(frozen=True)
class Depth:
    """`oldest` is when the job was enqueued that waits longest."""

    name: str
    waiting: int
    started: int
    failed: int
    oldest: datetime | None


@dataclass(frozen=True)
class AtWork:
    name: str
    queues: Sequence[str]
    state: str
    heard_at: datetime | None
    job: str


@dataclass(frozen=True)
class Failed:
    queue: str
    id: str
    what: str
    at: datetime | None
    error: str


@dataclass(frozen=True)
class Look:
    depths: Sequence[Depth]
    workers: Sequence[AtWork]
    failed: Sequence[Failed]


def look() -> Look:
    """RedisError when Redis does not answer within some seconds."""
    client = condition.redis_client()
    try:
        queues = sorted(Queue.all(connection=client), key=lambda queue: queue.name)
        failed = [one for queue in queues for one in _failed(queue, client)]
        workers = [_worker(worker) for worker in Worker.all(connection=client)[:MOST_WORKERS]]
        return Look([_depth(queue) for queue in queues], sorted(workers, key=lambda worker: worker.name), failed[:MOST_FAILED])
    finally:
        client.close()


def retry(queue: str, job: str) -> None:
    """NoSuchJobError or InvalidJobOperation when it is not among the failed ones."""
    client = condition.redis_client()
    try:
        FailedJobRegistry(queue, connection=client).requeue(job)
    finally:
        client.close()


def forget(queue: str, job: str) -> None:
    client = condition.redis_client()
    try:
        registry = FailedJobRegistry(queue, connection=client)
        if job not in registry:
            raise NoSuchJobError(job)
        registry.remove(job, delete_job=True)
    finally:
        client.close()


def _depth(queue: Queue) -> Depth:
    first = queue.get_job_ids(0, 1)
    oldest = queue.fetch_job(first[0]) if first else None
    started = StartedJobRegistry(queue=queue).get_job_count(cleanup=False)
    failed = FailedJobRegistry(queue=queue).get_job_count(cleanup=False)
    return Depth(queue.name, queue.count, started, failed, _utc(oldest.enqueued_at) if oldest else None)


def _worker(worker: BaseWorker) -> AtWork:
    job = worker.get_current_job_id() or ""
    return AtWork(worker.name, worker.queue_names(), str(worker.get_state()), _utc(worker.last_heartbeat), job)


def _failed(queue: Queue, client: Redis) -> list[Failed]:
    ids = FailedJobRegistry(queue=queue).get_job_ids(0, MOST_FAILED - 1, cleanup=False)
    return [_failure(queue, job) for job in Job.fetch_many(ids, connection=client) if job is not None]


def _failure(queue: Queue, job: Job) -> Failed:
    what = (job.description or job.id).removeprefix("tasks.running.jobs.")[:_MOST_WHAT]
    result = job.latest_result()
    return Failed(queue.name, job.id, what, _utc(job.ended_at), ((result.exc_string if result else "") or "")[-_MOST_ERROR:])


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
