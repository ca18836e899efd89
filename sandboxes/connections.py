"""An accepted connection of the gateway, and the sandbox that it comes from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandboxes.base import NetworkMode, NetworkPolicy
from sandboxes.egress import Policy
from sandboxes.http1 import ProxyError

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Client:
    """One accepted connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    task: asyncio.Task[None] = field(init=False)
    touched: float = 0.0
    requests: int = 0
    has_answer: bool = False  # of the present request: its first byte was sent
    is_with_us: bool = False  # the service is at work on it
    is_idle: bool = False  # found so by the sweep, and canceled for it
    bytes_up: int = 0
    bytes_down: int = 0

    def sent(self, size: int) -> None:
        self.bytes_up += size
        self.touched = asyncio.get_running_loop().time()

    def received(self, size: int) -> None:
        self.bytes_down += size
        self.touched = asyncio.get_running_loop().time()

    def begin(self) -> None:
        self.requests += 1
        self.has_answer, self.is_with_us, self.bytes_up, self.bytes_down = False, False, 0, 0
        self.touched = asyncio.get_running_loop().time()

    def answer(self, data: bytes) -> None:
        self.has_answer = True
        self.writer.write(data)


class Caller:
    """The sandbox behind a socket: who it is and what it may reach, as its spec.json says now."""

    def __init__(self, spec: Path, lookups: int) -> None:
        self.key = ""
        self.lookups = asyncio.Semaphore(lookups)
        self.asked = 0  # bytes of bodies that the service is given
        self._spec = spec
        self._seen: tuple[int, int, int] | None = None
        self._policy: Policy | None = None
        self._trouble = ""

    def policy(self) -> Policy:
        """The policy as it is now. ProxyError when it cannot be read."""
        try:
            status = os.stat(self._spec)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen or self._policy is None:
                spec = json.loads(self._spec.read_text())
                network = NetworkPolicy(NetworkMode(spec["network"]["mode"]), tuple(spec["network"]["hosts"]))
                self._policy, self.key, self._seen = Policy.of(network), str(spec["key"]), seen
        except (OSError, ValueError, KeyError, TypeError) as error:
            if str(error) != self._trouble:  # once, however often it is asked for
                logger.warning("%s: the network policy cannot be read (%s)", self._spec, error)
            self._trouble = str(error)
            raise ProxyError(503, "The network policy of this sandbox cannot be read. Start the run anew.") from None
        return self._policy


@contextlib.asynccontextmanager
async def canceling(*tasks: asyncio.Task[Any]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
