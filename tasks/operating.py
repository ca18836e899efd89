"""The verbs of operators, besides those of users."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction

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
from tasks.running import capacity, nudge, operations, templates
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
