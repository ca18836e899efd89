"""Where runs are or were: with E2B, or on a machine of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from tasks.models import Run, Sandbox, SandboxStatus

LABELS = {"e2b": "E2B", "local": "This machine"}


@dataclass(frozen=True)
class Where:
    """`label` says it in a word or two; `notice` in a sentence why it is not where it was asked for, "" when it is. `is_gone`: whether
    the sandbox that a follow-up would go on in is no more."""

    label: str = ""
    notice: str = ""
    is_gone: bool = False


def label_of(backend: str, host: str = "") -> str:
    """The words for a backend; `host` is the machine that holds a local sandbox, once there is one."""
    is_elsewhere = backend == "local" and host not in ("", settings.HOST_NAME)
    return f"Machine {host}" if is_elsewhere else LABELS.get(backend, backend)


def where_are(runs: Sequence[Run]) -> dict[int, Where]:
    """Where each of these runs is, by id: where its newest sandbox is, or where one will be made for it."""
    found = {run.pk: Where(label_of(run.backend)) for run in runs}
    over = {run.pk: run.generation for run in runs if run.is_over}
    rows = Sandbox.objects.filter(run__in=found).order_by("generation")
    for run_id, generation, status, backend, host, notice in rows.values_list("run", "generation", "status", "backend", "host", "notice"):
        # What the notice of a sandbox of E2B says is not of where it is.
        fallen_back = notice if backend == "local" else ""
        is_gone = over.get(run_id) == generation and status in (SandboxStatus.LOST, SandboxStatus.DESTROYED)
        found[run_id] = Where(label_of(backend, host), fallen_back or found[run_id].notice, is_gone)
    return found
