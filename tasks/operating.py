"""The verbs of operators, besides those of users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError
from rq.exceptions import InvalidJobOperation, NoSuchJobError

from tasks import audit
from tasks.errors import Conflict, NotAllowed
from tasks.models import (
    ACTIVE,
    AuditKind,
    CreationBucket,
    Delivery,
    DeliveryStatus,
    Operation,
    OperationStatus,
    Sandbox,
    SandboxStatus,
    User,
)
from tasks.running import capacity, condition, nudge, operations, templates
from tasks.running import queues as jobs
from tasks.running.templates import Wanted


def destroy_sandbox(*, sandbox: Sandbox, by: User) -> None:
    """Let a sandbox be destroyed that no turn is at work in; a follow-up then starts in a new one, from the newest patch."""
    _check_operator(by)
    idle = Sandbox.objects.filter(pk=sandbox.pk).exclude(run__status__in=ACTIVE)
    with transaction.atomic():
        # A lost sandbox is one that reconcile destroys, should the nudge get lost.
        if not idle.exclude(status=SandboxStatus.DESTROYED).update(status=SandboxStatus.LOST):
            raise Conflict("It is destroyed already." if idle.exists() else "A turn is at work in it. Stop the run first.")
        audit.record(AuditKind.SANDBOX_DESTROYED, by=by, subject=sandbox, run=sandbox.run_id, ref=sandbox.ref, backend=sandbox.backend)
        nudge.enqueue(f"host-{sandbox.host}" if sandbox.host else settings.QUEUE_RUNS, "destroy_sandbox", sandbox.pk)


def look_through(*, by: User, backend: str) -> None:
    """Let the sandboxes of a backend be compared with their rows now, as is done every minute; what no row wants is destroyed."""
    _check_operator(by)
    with transaction.atomic():
        audit.record(AuditKind.OPERATED, by=by, deed="look_through", backend=backend)
        nudge.enqueue(settings.QUEUE_HOST if backend == "local" else settings.QUEUE_RUNS, "reap")


def retry_job(*, queue: str, job: str, by: User) -> None:
    """Put a failed job back into its queue. Jobs do nothing twice, so one that was done meanwhile by another does no harm."""
    _check_operator(by)
    with _about_job(queue, job):
        jobs.retry(queue, job)
    audit.record(AuditKind.OPERATED, by=by, subject=f"job:{job}", deed="retry_job", queue=queue)


def forget_job(*, queue: str, job: str, by: User) -> None:
    """Delete what is kept of a failed job."""
    _check_operator(by)
    with _about_job(queue, job):
        jobs.forget(queue, job)
    audit.record(AuditKind.OPERATED, by=by, subject=f"job:{job}", deed="forget_job", queue=queue)


@contextmanager
def _about_job(queue: str, job: str) -> Iterator[None]:
    try:
        yield
    except (NoSuchJobError, InvalidJobOperation):
        raise Conflict("This job is not among the failed ones any more.") from None
    except RedisError as error:
        raise Conflict(f"Redis does not answer: {condition.said(error)}") from None


def open_creations(*, bucket: CreationBucket, by: User) -> None:
    """Let sandboxes of a backend be made again before the time that its refusal asked for."""
    _check_operator(by)
    if not capacity.open_now(bucket.backend):
        raise Conflict("It is open already.")
    audit.record(AuditKind.OPERATED, by=by, subject=bucket, deed="open_creations")
    nudge.dispatch()


def start_operation_again(*, operation: Operation, by: User) -> Operation:
    """Try anew what failed: the unfinished operation of the same kind on the same subject, made if there is none."""
    _check_operator(by)
    if operation.status != OperationStatus.FAILED:
        raise Conflict("It has not failed.")
    audit.record(AuditKind.OPERATED, by=by, subject=operation, deed="start_again", of=operation.subject)
    return operations.begin(operation.kind, operation.subject)


def run_delivery_again(*, delivery: Delivery, by: User) -> None:
    """Do once more what a webhook's delivery asks for, from what is kept of it. What has come since is not set back by it."""
    _check_operator(by)
    over = Delivery.objects.filter(pk=delivery.pk).exclude(status=DeliveryStatus.QUEUED)
    with transaction.atomic():
        if not over.update(status=DeliveryStatus.QUEUED, outcome="", tries=0, finished_at=None):
            raise Conflict("It waits for a worker already.")
        audit.record(AuditKind.OPERATED, by=by, subject=delivery, deed="run_delivery_again")
        nudge.enqueue(settings.QUEUE_RUNS, "github.work_on_delivery", delivery.pk)


def build_template(*, by: User, wanted: Wanted) -> Operation:
    """Build a template for E2B sandboxes, unless that is being done already. NotBuilt when there is no account at E2B."""
    _check_operator(by)
    templates.account()
    audit.record(AuditKind.OPERATED, by=by, deed="build_template")
    return operations.begin_template(wanted)


def _check_operator(by: User) -> None:
    if not by.is_operator:
        raise NotAllowed("Only operators may do that.")
