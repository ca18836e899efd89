"""Run jobs: some workers, forked from one process so that they share what it has loaded."""

from __future__ import annotations

import os
import signal
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connections
from django_rq import get_queue
from rq import worker_pool

from asynccode.processes import die_with_parent
from tasks.running.worker import Worker


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
    """RQ's pool, whose workers end with it when it is killed, and also when they are told to while they still start."""

    def get_worker_process(self, name: str, burst: bool, **options: Any) -> Any:
        arguments = (die_with_parent(signal.SIGTERM), name, self._queue_names)
        return worker_pool.ForkProcess(target=_run_worker, args=arguments)

    def start_workers(self, *args: Any, **kwargs: Any) -> None:
        self._install_signal_handlers()  # RQ does so only after this
        super().start_workers(*args, **kwargs)


def _run_worker(arrange: Callable[[], None], name: str, queues: list[str]) -> None:
    # Until the worker listens to the pool's word to stop, it is a KeyboardInterrupt; its threads must not outlive that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    arrange()
    try:
        found = [get_queue(queue) for queue in queues]
        Worker(found, name=name, connection=found[0].connection).work(logging_level="WARNING")
    except KeyboardInterrupt:
        os._exit(0)
