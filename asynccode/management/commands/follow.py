"""Run the follower: store the events of this host's running sandboxes."""

from __future__ import annotations

import asyncio
import fcntl
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from tasks.running.follower import Follower


class Command(BaseCommand):
    help = "Follow the journals of running sandboxes and store their events. One a host."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        settings.DATA.mkdir(parents=True, exist_ok=True)
        with (settings.DATA / "follow.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError("Another follower is at work on this host.") from None
            asyncio.run(self._follow())

    async def _follow(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await Follower().run()
        except asyncio.CancelledError:
            self.stdout.write("Stopped.")
