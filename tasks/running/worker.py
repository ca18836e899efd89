"""The RQ worker: jobs are short, so they run in the worker itself; what a dead worker leaves behind is seen within seconds."""

from __future__ import annotations

from inspect import signature
from typing import Any

from django.db import close_old_connections, connection
from rq import SimpleWorker
from rq.job import Job

from tasks.running import log_context

IDLE_OPTION = "-c idle_in_transaction_session_timeout=10s"
"""For libpq: a process that freezes in the middle of a transaction must not hold its locks against those that take over."""


class Worker(SimpleWorker):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        connection.settings_dict |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
        options = connection.settings_dict["OPTIONS"]
        options["options"] = f"{options.get('options', '')} {IDLE_OPTION}".strip()
        super().__init__(*args, **kwargs | {"worker_ttl": 20, "job_monitoring_interval": 5, "maintenance_interval": 15})

    def perform_job(self, job: Job, *args: Any, **kwargs: Any) -> bool:
        # A connection that died with the database is made anew, as at the start of a request.
        close_old_connections()
        try:
            with log_context.about(**_ids(job)):
                return bool(super().perform_job(job, *args, **kwargs))
        finally:
            close_old_connections()


def _ids(job: Job) -> dict[str, str | int]:
    """What a job is about, by the names of its arguments: `run_id` tells the run."""
    name = str(job.func_name).rpartition(".")[2]
    try:
        given = zip(signature(job.func).parameters, job.args, strict=False)
    except (ImportError, AttributeError, TypeError, ValueError):  # there is no such job; RQ is going to say so
        return {"job": name}
    return {"job": name} | {argument.removesuffix("_id"): value for argument, value in given if argument.endswith("_id")}
