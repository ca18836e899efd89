"""The RQ jobs of a run's life, by the names under which they are enqueued: short, idempotent, fenced. Whatever a job finds
already done, it leaves alone."""

from __future__ import annotations

from django.core.management import call_command

from tasks.models import Repo
from tasks.running import operations
from tasks.running.attachments import forget_drafts
from tasks.running.checks import tend as tend_check
from tasks.running.delivering import deliver, deliver_due
from tasks.running.delivering import forget_old as forget_outgoing
from tasks.running.ending import collect_checkpoint, finish_turn, give_up
from tasks.running.losing import sandbox_lost
from tasks.running.prepared import discard as discard_prepared
from tasks.running.prepared import discard_strays as discard_prepared_strays
from tasks.running.prepared import settle as settle_prepared
from tasks.running.reaping import destroy_sandbox, reap
from tasks.running.reconcile import reconcile
from tasks.running.scheduler import dispatch
from tasks.running.sleeping import put_to_sleep
from tasks.running.starting import hand_turn, start_turn
from tasks.running.telling import deliver_message, deliver_stop

__all__ = [
    "collect_checkpoint",
    "deliver",
    "deliver_due",
    "deliver_message",
    "deliver_stop",
    "destroy_sandbox",
    "discard_prepared",
    "discard_prepared_strays",
    "dispatch",
    "finish_turn",
    "forget_drafts",
    "forget_outgoing",
    "forget_sessions",
    "give_up",
    "hand_turn",
    "look_at_repo",
    "put_to_sleep",
    "reap",
    "reconcile_all",
    "run_operation",
    "sandbox_lost",
    "settle_prepared",
    "start_turn",
    "tend_check",
]


def reconcile_all() -> None:
    reconcile()


def run_operation(operation_id: int) -> None:
    operations.work(operation_id)


def look_at_repo(repo_id: int) -> None:
    for repo in Repo.objects.filter(pk=repo_id, removed_at=None):
        operations.look(repo)


def forget_sessions() -> None:
    """Delete sessions that have expired; Django leaves that to whoever runs it."""
    call_command("clearsessions")
