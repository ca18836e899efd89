"""Every 15 seconds: re-send what got lost, take over what died, clean up what nobody needs. Each part may run at any time, twice."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Now

from tasks.models import ACTIVE, FINAL, Beats, PreparedStatus, Repo, Run, RunStatus, Sandbox, SandboxStatus, Stage, Task
from tasks.running import answers, checks, counting, heartbeats, lifecycle, lifetimes, losing, nudge, operations, prepared, scheduler


def reconcile() -> None:
    take_over_dead_starts()
    hand_over_again()
    finish_again()
    stop_again()
    operations.start_again()
    for repo in Repo.objects.filter(tasks__base_commit="", mirrored_at__isnull=False).distinct():
        operations.pin_waiting(repo)
    for repo in Repo.objects.filter(
        pk__in=Task.objects.filter(base_commit="", runs__status=RunStatus.QUEUED).values("repo"), mirrored_at=None
    ):
        operations.begin("mirror", f"repo:{repo.pk}")
    sleep_again()
    destroy_unneeded()
    lifetimes.watch()
    prepared.tidy()
    checks.tidy()
    answers.forget_old()
    scheduler.dispatch()
    heartbeats.beat(Beats.RECONCILE)
    heartbeats.forget_old()


def take_over_dead_starts() -> None:
    """A start whose lease ran out before anything began is made again, in a new generation: the old owner can do no harm there."""
    for run in Run.objects.filter(status=RunStatus.STARTING, lease_until__lt=Now()):
        dead = Q(generation=run.generation, lease_owner=run.lease_owner, lease_until__lt=Now())
        old = Sandbox.objects.filter(run=run, generation=run.generation).first()
        if run.start_tries + 1 >= losing.MOST_START_TRIES:
            error = f"The sandbox could not be started: {losing.MOST_START_TRIES} tries showed no life for {settings.START_LEASE_S} s each."
            lifecycle.finish(run.pk, source=[RunStatus.STARTING], to=RunStatus.ERRORED, fence=dead, error=error)
            counting.MENDS.add(1, "start given up")
            continue
        # A sandbox with a reference holds an earlier turn's workspace: only its waking up is tried again.
        keeps_sandbox = old is not None and old.ref
        generation = run.generation if keeps_sandbox else run.generation + 1
        moved = lifecycle.requeue(
            run.pk, source=[RunStatus.STARTING], fence=dead, generation=generation, start_tries=run.start_tries + 1, queued_at=run.queued_at
        )
        counting.MENDS.add(int(moved), "start taken over")
        if moved and old is not None and not keeps_sandbox:
            Sandbox.objects.filter(pk=old.pk).update(status=SandboxStatus.LOST)


def hand_over_again() -> None:
    """RUNNING, but no step was ever seen: the job died between the point of no return and the hand-over."""
    late = Run.objects.filter(status=RunStatus.RUNNING, stage=Stage.PROVISION, started_at__lt=Now() - timedelta(seconds=10))
    for run in late:
        nudge.enqueue_now(host_queue(run), "hand_turn", run.pk, run.generation)
        counting.MENDS.add(1, "turn handed over")


def finish_again() -> None:
    for run in Run.objects.filter(status=RunStatus.RUNNING, stage=Stage.COLLECT):
        nudge.enqueue_now(host_queue(run), "finish_turn", run.pk, run.generation)
        counting.MENDS.add(1, "turn finished")


def stop_again() -> None:
    late = Run.objects.filter(status=RunStatus.RUNNING, stop_requested_at__lt=Now() - timedelta(seconds=5)).exclude(stage=Stage.COLLECT)
    for run in late:
        nudge.enqueue_now(host_queue(run), "deliver_stop", run.pk, run.generation)
        counting.MENDS.add(1, "stop delivered")


def sleep_again() -> None:
    """Sandboxes that are still awake though their run is over: the job died before it had put them to sleep."""
    late = Now() - timedelta(seconds=5)
    for run_id, generation, host in Sandbox.objects.filter(
        ~Q(run__prepares__status=PreparedStatus.BUILDING),
        status=SandboxStatus.LIVE,
        run__status__in=lifecycle.OVER,
        run__finished_at__lt=late,
    ).values_list("run", "generation", "host"):
        nudge.enqueue_now(f"host-{host}" if host else settings.QUEUE_RUNS, "put_to_sleep", run_id, generation)
        counting.MENDS.add(1, "sandbox put to sleep")


def destroy_unneeded() -> None:
    """Sandboxes of old generations, of archived tasks, of runs that were set aside, and those kept long enough after their run was over."""
    kept = timedelta(hours=settings.SANDBOX_RETENTION_H)
    is_done_with = Q(run__task__archived_at__isnull=False) | Q(run__set_aside_at__isnull=False)
    is_over = is_done_with | Q(run__finished_at__lt=Now() - kept)
    unneeded = (
        Sandbox.objects.exclude(status=SandboxStatus.DESTROYED)
        .exclude(run__prepares__status=PreparedStatus.BUILDING)  # what lies in it is to be kept first
        .filter(
            Q(run__generation__gt=F("generation"))  # also while the run is at work in a newer one
            | (Q(status=SandboxStatus.LOST) & ~Q(run__status__in=ACTIVE))
            | (Q(run__status__in=FINAL) & is_over)
        )
    )
    for sandbox in unneeded:
        queue = f"host-{sandbox.host}" if sandbox.host else settings.QUEUE_RUNS
        nudge.enqueue_now(queue, "destroy_sandbox", sandbox.pk)
        counting.MENDS.add(1, "sandbox destroyed")


def host_queue(run: Run) -> str:
    host = Sandbox.objects.filter(run=run, generation=run.generation).values_list("host", flat=True).first()
    return f"host-{host}" if host else settings.QUEUE_RUNS
