"""The RQ worker: jobs are short, so they run in the worker itself; what a dead worker leaves behind is seen within seconds."""

from __future__ import annotations

from typing import Any

from django.db import close_old_connections
from rq import SimpleWorker


class Worker(SimpleWorker):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"worker_ttl": 20, "job_monitoring_interval": 5, "maintenance_interval": 15})

    def perform_job(self, *args: Any, **kwargs: Any) -> bool:
        # A connection that died with the database is made anew, as at the start of a request.
        close_old_connections()
        try:
            return bool(super().perform_job(*args, **kwargs))
        finally:
            close_old_connections()
