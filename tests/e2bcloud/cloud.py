"""The cloud's sandboxes and their lives: made, paused, resumed, expired, gone. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2bcloud.box import Box, Runtime, copy, prepare
from tests.e2bcloud.faults import Faults


class Refused(Exception):
    """An error of the API, in its own shape."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


@dataclass
class Settings:
    """The plan's limits; None is no limit."""

    max_life: float = 24 * 3600.0
    concurrency: int | None = None
    creations_per_s: int | None = None


@dataclass
class Sandbox:
    id: str
    token: str
    template: str
    body: dict[str, Any]  # as it was asked for
    box: Box
    started_at: float
    end_at: float = 0.0
    running_since: float = 0.0
    state: str = "running"  # or paused, gone
    timer: asyncio.TimerHandle | None = None
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.body.get("metadata") or {})

    @property
    def on_timeout(self) -> str:
        return "pause" if self.body.get("autoPause") else "kill"

    @property
    def auto_resume(self) -> bool:
        return bool((self.body.get("autoResume") or {}).get("enabled"))

    def control(self) -> dict[str, Any]:
        """All that is known of it, for tests."""
        return {
            "id": self.id,
            "state": self.state,
            "template": self.template,
            "metadata": self.metadata,
            "envs": self.body.get("envVars") or {},
            "network": self.body.get("network"),
            "allow_internet_access": self.body.get("allow_internet_access"),
            "on_timeout": self.on_timeout,
            "auto_resume": self.auto_resume,
            "timeout_left": self.end_at - time.time(),
            "root": str(self.box.root),
            "token": self.token,
            "processes": {str(pid): command for pid, command in self.box.processes().items()},
        }


class Cloud:
    def __init__(self, root: Path, settings: Settings, shared: tuple[str, ...] = ()) -> None:
        self.root, self.settings, self.faults = root, settings, Faults()
        self.runtime: Runtime = prepare(root, shared)
        self.sandboxes: dict[str, Sandbox] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.known_templates = {"base", "claude", "codex"}
        self._starting = 0
        self._creations: deque[float] = deque()
        self._by_key: dict[str, asyncio.Future[Sandbox]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def get(self, sandbox_id: str) -> Sandbox:
        """Raises Refused(404)."""
        if (sandbox := self.sandboxes.get(sandbox_id)) is None:
            raise Refused(404, f"sandbox '{sandbox_id}' not found")
        return sandbox

    # --- creation -------------------------------------------------------------------------------------------------------

    async def create(self, body: dict[str, Any], key: str | None = None) -> Sandbox:
        """The sandbox that is asked for; the same one again for the same idempotency key."""
        if key is None:
            return await self._create(body)
        if key not in self._by_key:
            self._by_key[key] = asyncio.ensure_future(self._create(body))
        try:
            return await asyncio.shield(self._by_key[key])
        except Exception:
            self._by_key.pop(key, None)
            raise

    async def _create(self, body: dict[str, Any], files: Path | None = None) -> Sandbox:
        template = body.get("templateID", "")
        files = files or self._files(template)
        timeout = self._timeout(body)
        self._check_rate()
        self._check_concurrency()
        self._starting += 1
        try:
            sandbox_id = "i" + uuid.uuid4().hex[:19]
            box = Box(self.runtime, self.root / "sandboxes" / sandbox_id)
            sandbox = Sandbox(sandbox_id, secrets.token_hex(16), template, body, box, time.time())
            try:
                await box.start(dict(body.get("envVars") or {}), files)
            except BaseException:
                await box.remove()
                raise
        finally:
            self._starting -= 1
        self.sandboxes[sandbox_id] = sandbox
        sandbox.running_since = time.time()
        self._end_in(sandbox, timeout)
        self.do(self._watch(sandbox))
        return sandbox

    def _files(self, template: str) -> Path | None:
        """Where a template's files are; None for the base system. Raises Refused(404) for an unknown one."""
        name = template.partition(":")[0]
        for snapshot in self.snapshots.values():
            if template == snapshot["id"] or name in snapshot["names"] or template in snapshot["names"]:
                return Path(snapshot["files"])
        if name in self.known_templates:
            return None
        raise Refused(404, f"template '{template}' not found")

    def _timeout(self, body: dict[str, Any]) -> float:
        timeout = float(body.get("timeout", 300))
        if timeout > self.settings.max_life:
            raise Refused(400, f"Timeout cannot be greater than {self.settings.max_life / 3600:g} hours")
        return timeout

    def _check_rate(self) -> None:
        if (limit := self.settings.creations_per_s) is None:
            return
        now = time.monotonic()
        while self._creations and self._creations[0] < now - 1:
            self._creations.popleft()
        if len(self._creations) >= limit:
            raise Refused(429, "Rate limit exceeded: too many sandboxes created at once", retry_after=1)
        self._creations.append(now)

    def _check_concurrency(self) -> None:
        limit = self.settings.concurrency
        if limit is not None and self._starting + sum(one.state == "running" for one in self.sandboxes.values()) >= limit:
            raise Refused(429, too_many(limit))

    # --- life -----------------------------------------------------------------------------------------------------------

    def set_timeout(self, sandbox: Sandbox, body: dict[str, Any], *, may_shorten: bool) -> None:
        end = time.time() + self._timeout(body)
        if may_shorten or end > sandbox.end_at:
            self._end_in(sandbox, end - time.time())

    def _end_in(self, sandbox: Sandbox, seconds: float) -> None:
        now = time.time()
        sandbox.end_at = min(now + seconds, sandbox.running_since + self.settings.max_life)
        if sandbox.timer is not None:
            sandbox.timer.cancel()
        loop = asyncio.get_running_loop()
        sandbox.timer = loop.call_later(max(0.0, sandbox.end_at - now), lambda: self.do(self._expire(sandbox)))

    async def _expire(self, sandbox: Sandbox) -> None:
        if sandbox.state == "running" and sandbox.end_at <= time.time() + 0.05:
            with contextlib.suppress(Refused):
                await (self.pause(sandbox) if sandbox.on_timeout == "pause" else self.kill(sandbox))

    async def _watch(self, sandbox: Sandbox) -> None:
        """A sandbox whose init ended is gone, whoever ended it."""
        await sandbox.box.ended()
        await self.kill(sandbox)

    async def pause(self, sandbox: Sandbox) -> None:
        """Raises Refused: 409 when it is paused already, 404 when it is gone."""
        async with sandbox.lock:
            if sandbox.state == "paused":
                raise Refused(409, f"sandbox '{sandbox.id}' is already paused")
            if sandbox.state == "gone":
                raise Refused(404, f"sandbox '{sandbox.id}' not found")
            sandbox.state = "paused"
            if sandbox.timer is not None:
                sandbox.timer.cancel()
            await sandbox.box.freeze()
            self._hang_up(sandbox)

    async def resume(self, sandbox: Sandbox, body: dict[str, Any]) -> bool:
        """Whether it had to be resumed. A running one keeps its timeout if that is longer."""
        async with sandbox.lock:
            if sandbox.state == "gone":
                raise Refused(404, f"sandbox '{sandbox.id}' not found")
            if sandbox.state == "running":
                self.set_timeout(sandbox, body, may_shorten=False)
                return False
            timeout = self._timeout(body)
            self._check_concurrency()
            sandbox.box.thaw()
            sandbox.state, sandbox.running_since = "running", time.time()
            self._end_in(sandbox, timeout)
            return True

    async def kill(self, sandbox: Sandbox) -> None:
        """Also what is meant by vanishing: nothing tells the two apart from outside."""
        self.sandboxes.pop(sandbox.id, None)
        async with sandbox.lock:
            if sandbox.state == "gone":
                return
            sandbox.state = "gone"
            if sandbox.timer is not None:
                sandbox.timer.cancel()
            await sandbox.box.kill()
            self._hang_up(sandbox)
        await sandbox.box.remove()

    def kill_in(self, sandbox: Sandbox, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, lambda: self.do(self.kill(sandbox)))

    def _hang_up(self, sandbox: Sandbox) -> None:
        for writer in list(sandbox.connections):
            writer.transport.abort()

    # --- snapshots ------------------------------------------------------------------------------------------------------

    async def snapshot(self, sandbox: Sandbox, name: str | None) -> dict[str, Any]:
        """The files of a sandbox, kept when it is gone; its processes are not."""
        snapshot_id = "s" + uuid.uuid4().hex[:19]
        files = self.root / "snapshots" / snapshot_id
        files.parent.mkdir(exist_ok=True, mode=0o711)
        async with sandbox.lock:
            was_running = sandbox.state == "running"
            if was_running:
                await sandbox.box.freeze()
            try:
                await copy(sandbox.box.root, files)
            finally:
                if was_running:
                    sandbox.box.thaw()
        made = {"id": snapshot_id, "names": [name] if name else [], "sandbox": sandbox.id, "files": str(files)}
        self.snapshots[snapshot_id] = made
        return made

    async def fork(self, sandbox: Sandbox, body: dict[str, Any]) -> list[Sandbox | Refused]:
        """Copies of its files, in sandboxes of their own."""
        made: list[Sandbox | Refused] = []
        for _ in range(int(body.get("count", 1))):
            try:
                made.append(await self._create({**sandbox.body, "timeout": body.get("timeout", 300)}, sandbox.box.root))
            except Refused as refused:
                made.append(refused)
        return made

    async def close(self) -> None:
        """Ends all sandboxes, by their ids."""
        await asyncio.gather(*(self.kill(sandbox) for sandbox in list(self.sandboxes.values())))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


def too_many(limit: int) -> str:
    return (
        f"you have reached the maximum number of concurrent E2B sandboxes ({limit}). "
        "If you need more, please contact us at 'https://e2b.dev/docs/getting-help'"
    )


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
