"""What watches over a running step's memory and disk where no cgroup or quota does."""

from __future__ import annotations

from . import limits, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .loop import Loop
    from .steps import Step

MEMORY_EVERY_S = 1.0
DISK_EVERY_S = 15.0
_DISK_SCAN_S = 10.0
_DISK_SHARE = 20  # a scan may take a twentieth of the time


class Watchdog:
    """Ends a step over a limit; `disk_every_s` and more pass between two scans of `roots`, which run in a child."""

    def __init__(self, loop: Loop, bounds: limits.Limits, roots: Sequence[str], disk_every_s: float = DISK_EVERY_S) -> None:
        self._loop, self._bounds, self._roots, self._disk_every_s = loop, bounds, roots, disk_every_s

    def guard(self, step: Step) -> None:
        if self._bounds.memory is not None:
            self._loop.task(self._guard_memory(step, self._bounds.memory))
        if self._bounds.disk is not None:
            self._loop.task(self._guard_disk(step, self._bounds.disk))

    async def _guard_memory(self, step: Step, limit: int) -> None:
        while True:
            await self._loop.within(step.ended, MEMORY_EVERY_S)
            if step.is_over:
                return
            if limits.memory_used(processes.others(), limit) > limit:
                step.kill("memory")  # it may not have the two seconds in which to take the host's

    async def _guard_disk(self, step: Step, limit: int) -> None:
        pause = self._disk_every_s
        while True:
            await self._loop.within(step.ended, pause)
            if step.is_over:
                return
            scan = processes.Call(self._loop, self._measure, nice=10)
            timer = self._loop.later(3 * _DISK_SCAN_S, scan.kill)
            answer: dict[str, Any] = await scan.result
            timer.cancel()
            if answer.get("bytes", 0) > limit:
                step.end("disk")
            pause = max(self._disk_every_s, _DISK_SHARE * answer.get("seconds", 0.0))

    def _measure(self) -> dict[str, Any]:
        import time

        started = time.monotonic()
        used = limits.disk_used(self._roots, _DISK_SCAN_S)
        return {"bytes": used, "seconds": time.monotonic() - started}
