"""Where runs are or were: with E2B, or on a machine of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef
from django.db.models.functions import JSONObject

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


def sandboxes() -> ArraySubquery:
    """Of a query of runs, what `where_is` has to know of each one's sandboxes, the oldest first."""
    names = ("generation", "status", "backend", "host", "notice")
    rows = Sandbox.objects.filter(run=OuterRef("pk")).order_by("generation")
    return ArraySubquery(rows.values(json=JSONObject(**{name: name for name in names})))


def where_is(run: Run, rows: Sequence[Mapping[str, Any]]) -> Where:
    """Where the newest of its sandboxes is, or where one will be made for it; `rows` are what `sandboxes` gives."""
    if not rows:
        return Where(label_of(run.backend))
    newest = rows[-1]
    # What the notice of a sandbox of E2B says is not of where it is.
    notices = [row["notice"] for row in rows if row["backend"] == "local" and row["notice"]]
    is_gone = run.is_over and newest["generation"] == run.generation and newest["status"] in (SandboxStatus.LOST, SandboxStatus.DESTROYED)
    return Where(label_of(newest["backend"], newest["host"]), notices[-1] if notices else "", is_gone)
