"""Run the gateway: the only way out of this host's local sandboxes."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import close_old_connections

from sandboxes.egress import Attempt
from sandboxes.gateway import Gateway
from tasks.running import network


def _record(key: str, attempt: Attempt) -> None:
    close_old_connections()  # the database may have been away since the last attempt
    network.record(key, attempt)


class Command(BaseCommand):
    help = "Let this host's local sandboxes reach what their network policy allows, and record what they try."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        root = settings.DATA / "sandboxes"
        root.mkdir(parents=True, exist_ok=True)
        gateway = Gateway(root, allow_private=settings.ALLOW_PRIVATE_HOSTS, on_attempt=sync_to_async(_record))
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await gateway.serve()
        except asyncio.CancelledError:
            self.stdout.write("Stopped.")
