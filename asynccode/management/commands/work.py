"""Run jobs: some workers, forked from one process so that they share what it has loaded."""

from __future__ import annotations

import logging
import os
import signal
from argparse import ArgumentParser
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connections
from django_rq import get_queue
from rq import worker_pool
from rq.exceptions import StopRequested

from asynccode.processes import die_with_parent
from tasks.models import Beats
from tasks.running import heartbeats
from tasks.running.worker import Worker

logger = logging.getLogger(__name__)
_STOP_S = 8  # less than the supervisor gives us


class Command(BaseCommand):
    help = "Work on the jobs of the queues, the first one first. SIGTERM ends it when the jobs at hand are done."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("queues", nargs="+", metavar="QUEUE")
        parser.add_argument("--workers", type=int, default=1)

    def handle(self, *args: Any, queues: list[str], workers: int, **options: Any) -> None:
        connections.close_all()  # none may be shared by the workers
        Pool([get_queue(name) for name in queues], connection=get_queue(queues[0]).connection, num_workers=workers).start(
            logging_level="WARNING"
        )


class Pool(worker_pool.WorkerPool):
    """RQ's pool, made sure to end: when told so in the middle of its start, without Redis, and when it is killed.
    It says that it is there, for its workers: one that ends is started anew, and reconcile's heartbeat tells that they work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_for_operations = settings.QUEUE_OPERATIONS in self._queue_names
        self._pulse = heartbeats.Pulse(Beats.OPERATIONS if is_for_operations else Beats.WORKER)

    def check_workers(self, respawn: bool = True) -> None:
        super().check_workers(respawn)
        self._pulse()
        connections.close_all()  # a worker that is forked later shall not have ours

    def get_worker_process(self, name: str, burst: bool, _sleep: float = 0, logging_level: str = "") -> BaseProcess:
        return worker_pool.ForkProcess(target=_run_worker, args=(die_with_parent(signal.SIGKILL), name, self._queue_names))

    def start_workers(self, *args: Any, **kwargs: Any) -> None:
        self._install_signal_handlers()  # type: ignore[no-untyped-call]  # RQ does so only after this
        super().start_workers(*args, **kwargs)

    def start_worker(self, *args: Any, **kwargs: Any) -> None:
        if self.status != self.Status.STOPPED:
            super().start_worker(*args, **kwargs)

    def request_stop(self, *args: Any) -> None:
        super().request_stop(*args)  # type: ignore[no-untyped-call]
        signal.alarm(_STOP_S)  # ends us, and that the workers: one that cannot reach Redis does not hear the word to stop


def _run_worker(arrange: Callable[[], None], name: str, queues: list[str]) -> None:
    # The pool's handlers are not for us. Until the worker has its own, the word to stop is a KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    arrange()
    code = 0
    try:
        found = [get_queue(queue) for queue in queues]
        Worker(found, name=name, connection=found[0].connection).work(logging_level="WARNING")
    except (KeyboardInterrupt, StopRequested):
        pass
    except Exception:
        logger.exception("a worker failed")
        code = 1
    os._exit(code)  # threads that it left must not keep it alive
