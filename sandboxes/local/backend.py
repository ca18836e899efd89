"""The local backend: the contract of `sandboxes.base`, kept with bubblewrap on this machine.

All state lies in folders below the root, none in this process: any process of ours, under the account that made
them, can find, command and destroy every sandbox, also after a crash of the one that started it.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from sandboxes.base import Backend, FetchedPatch, SandboxInfo, SandboxSpec
from sandboxes.errors import FileMissing, SandboxError, SandboxGone, SandboxUnavailable
from sandboxes.local import bwrap, control, limits
from sandboxes.local.accounts import Account
from sandboxes.local.folder import Folder, ref_of, refs, sweep
from sandboxes.local.launcher import Launcher, failure
from sandboxes.local.prepared import OVERLAY, Store
from sandboxes.local.processes import Process
from sandboxes.local.rootfs import check as check_rootfs
from sandboxes.supervised import SupervisedSandbox

_PING_S = 20.0
_LEAVE_S = 10.0
_CHUNK = 256 * 1024
_POLL_S = (0.1, 0.2)  # while the journal grows, when it is quiet
_ALIVE_S = 1.0


class LocalBackend(Backend):
    """Sandboxes in folders below `root`; `runtime` holds what is installed for them. Both must lie where `account`
    can reach them. `account` is what sandboxes run under when we are root, and None when we are not."""

    name = "local"

    def __init__(self, *, root: Path, runtime: Path, account: Account | None) -> None:
        if (os.geteuid() == 0) != (account is not None):
            raise SandboxUnavailable("Local sandboxes need an unprivileged account when started as root, and only then.")
        self.root = root.absolute()
        self.runtime = runtime.absolute()
        self.account = account
        self._pythons: dict[Path, str] = {}
        for folder, mode in ((self.root, 0o711), (self.runtime, 0o755)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)

    @cached_property
    def launcher(self) -> Launcher:
        return Launcher(bwrap.install(self.runtime), self.account, limits.find())

    @cached_property
    def store(self) -> Store:
        return Store(self.root, self.account, bwrap.install(self.runtime))

    @cached_property
    def can_overlay(self) -> bool:
        return self.store.can_overlay()

    def python(self, rootfs: Path | None) -> str:
        """The path in a sandbox of what runs its supervisor. Raises SandboxUnavailable when its system has none."""
        if rootfs is None:
            return bwrap.python()
        if rootfs not in self._pythons:
            found = check_rootfs(rootfs, program=bwrap.install(self.runtime), root=self.root, account=self.account)
            self._pythons[rootfs] = found.python
        return self._pythons[rootfs]

    async def create(self, key: str, spec: SandboxSpec) -> LocalSandbox:
        """A second create with the same key gives the same sandbox, resumed if it was paused."""
        folder = Folder(self.root, ref_of(key))
        for _ in range(3):
            try:
                await asyncio.to_thread(self._make, folder, key, spec)
            except OSError as error:
                raise SandboxError(f"The sandbox's folder could not be made: {error}.") from error
            try:
                async with folder.locked():
                    sandbox = LocalSandbox(self, folder)
                    await sandbox.start()
                    return sandbox
            except SandboxGone:  # somebody destroyed it between our two steps
                if folder.path.exists():
                    raise
            except SandboxError:
                if folder.journal.stat().st_size == 0:  # it never ran: leave nothing behind
                    await LocalSandbox(self, folder).destroy()
                raise
        raise SandboxGone(f"The sandbox {folder.ref} is being destroyed by another process.")

    def _make(self, folder: Folder, key: str, spec: SandboxSpec) -> None:
        if folder.path.exists():
            return
        with self.store.held(spec.prepared) if spec.prepared else contextlib.nullcontext():
            folder.make(key, spec, self.account)

    async def connect(self, ref: str) -> LocalSandbox:
        folder = Folder(self.root, ref)
        _ = folder.key  # raises SandboxGone
        return LocalSandbox(self, folder)

    async def list(self) -> list[SandboxInfo]:
        await asyncio.to_thread(sweep, self.root, self.account)
        await asyncio.to_thread(self.store.sweep)
        return list(self._infos())

    async def discard(self, prepared: str) -> None:
        """Sandboxes that stand on it are not disturbed, not even by a pause: the last one's end takes its files away."""
        await asyncio.to_thread(self.store.discard, prepared)

    async def kept(self, *, for_s: float) -> builtins.list[str]:
        return await asyncio.to_thread(self.store.kept, for_s)

    def _infos(self) -> Iterator[SandboxInfo]:
        for ref in refs(self.root):
            folder = Folder(self.root, ref)
            try:
                yield SandboxInfo(folder.key, ref, _running(folder) is not None)
            except SandboxGone:  # destroyed while we look
                continue


class LocalSandbox(SupervisedSandbox):
    """One sandbox on this machine."""

    def __init__(self, backend: LocalBackend, folder: Folder) -> None:
        self.backend = backend
        self.folder = folder
        self.ref = folder.ref

    @property
    def record(self) -> dict[str, Any]:
        """isolation, limits (which one holds by what), account (a uid), started_at; while it runs pid and pid_started.
        On a prepared environment: prepared ("overlay" or "copy") and given_mb, what of it is this sandbox's own."""
        return self.folder.read_record()

    async def patch(self, turn: int, kind: str) -> FetchedPatch:
        """Also of a paused sandbox, and after its resume: the checkpoint of the turn that `pause` ended."""
        try:
            return await super().patch(turn, kind)
        except (FileMissing, SandboxGone):
            kept = self.folder.kept_patch()
            if kind != "checkpoint" or kept is None or kept[0]["turn"] != turn:
                raise
            about, content = kept
            return FetchedPatch(content, about["sha256"], about["left_out"])

    async def journal(self, offset: int) -> AsyncIterator[bytes]:
        try:
            descriptor = os.open(self.folder.journal, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._gone() from None
        try:
            pause, looked, is_over = _POLL_S[0], 0.0, False
            process: Process | None = None
            while True:
                if chunk := os.pread(descriptor, _CHUNK, offset):
                    offset += len(chunk)
                    pause = _POLL_S[0]
                    yield chunk
                elif is_over:
                    return
                elif time.monotonic() - looked >= _ALIVE_S:
                    looked = time.monotonic()
                    if process is None or not process.is_alive():
                        process = self._running()  # it may have been paused and resumed
                    is_over = process is None  # then read once more: it may have written before it died
                else:
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, _POLL_S[1])
        finally:
            os.close(descriptor)

    async def alive(self) -> bool:
        return self._running() is not None

    def _running(self) -> Process | None:
        try:
            return _running(self.folder)
        except SandboxGone:
            return None

    async def start(self) -> None:
        """Start it if it does not run; SandboxError says why it cannot. The caller holds the folder's lock."""
        if _running(self.folder):
            return
        # Twice, since a start whose starter crashed may still be on its way: it has the journal's lock, ours gives up,
        # and by then it can be found and killed.
        for is_last in (False, True):
            await asyncio.to_thread(self._stop)
            try:
                process = await asyncio.to_thread(self._launch)
                self.folder.write_record({**self.record, **self._describe(process)})
                await self._ask("ping", _PING_S)
            except SandboxError as error:
                if is_last:
                    await asyncio.to_thread(self._stop)
                    raise failure(self.folder) if isinstance(error, SandboxGone) else error from None
            else:
                return

    def _launch(self) -> Process:
        folder, launcher = self.folder, self.backend.launcher
        python = self.backend.python(folder.rootfs)
        if not folder.prepared:
            return launcher.start(folder, python)
        if "prepared" not in self.record:
            how, given_mb = self.backend.store.begin(folder, can_overlay=self.backend.can_overlay)
            folder.write_record({**self.record, "prepared": how, "given_mb": given_mb})
        how, given_mb = self.record["prepared"], self.record["given_mb"]
        return launcher.start(folder, python, self.backend.store.lower(folder.prepared) if how == OVERLAY else None, given_mb)

    async def pause(self) -> None:
        async with self.folder.locked():
            await self._leave()

    async def _leave(self) -> None:
        """Let it end by itself, with the checkpoint of its turn, or kill it. The caller holds the folder's lock."""
        if process := _running(self.folder):
            try:
                told, patch = await self._shutdown()
            except SandboxError:  # it does not answer or cannot: killed below
                pass
            else:
                if "sha256" in told:
                    self.folder.keep_patch({name: told[name] for name in ("turn", "sha256", "left_out")}, patch)
                await asyncio.to_thread(process.wait, _LEAVE_S)
        await asyncio.to_thread(self._stop)

    async def resume(self, spec: SandboxSpec | None = None) -> None:
        async with self.folder.locked():
            await self.start()

    async def keep(self) -> str:
        async with self.folder.locked():
            await self.start()
            await self._tidy(self.backend.python(self.folder.rootfs))
            await self._leave()
            return await asyncio.to_thread(self.backend.store.keep, self.folder, self.record.get("prepared", ""))

    async def destroy(self) -> None:
        try:
            await asyncio.to_thread(self._kill)  # first of all, whoever holds the lock
            async with self.folder.locked():
                await asyncio.to_thread(self._stop)
                await asyncio.to_thread(self.folder.delete, self.backend.account)
            await asyncio.to_thread(self.backend.store.sweep)
        except SandboxGone:
            return

    async def _ask(self, what: str, timeout_s: float, payload: bytes = b"", /, **message: Any) -> tuple[dict[str, Any], bytes]:
        if not self.folder.path.exists():
            raise self._gone()
        return await control.request(self.folder.control, {"do": what, **message}, payload, timeout_s=timeout_s)

    def _describe(self, process: Process) -> dict[str, Any]:
        cgroups = self.backend.launcher.cgroups
        return {
            "isolation": f"bubblewrap {bwrap.version()}",
            "limits": cgroups.describe(),
            "cgroups": [str(folder) for folder in cgroups.folders(self.ref)],
            "account": self.backend.account.uid if self.backend.account else os.geteuid(),
            "started_at": time.time(),
            "pid": process.pid,
            "pid_started": process.started,
            "boot": process.boot,
        }

    def _kill(self) -> None:
        """Kill what runs of it, also what was started by a process that died before it could say so."""
        processes = [_running(self.folder), *(Process.of_info(info) for info in self.folder.infos())]
        for process in filter(None, processes):
            process.kill()

    def _stop(self) -> None:
        """Kill it and forget that it ran; files and journal stay."""
        self._kill()
        record = self.record
        # Those it was put in, and those a start that never came to a record may have made.
        limits.remove([*map(Path, record.get("cgroups", ())), *self.backend.launcher.cgroups.folders(self.ref)])
        self.folder.write_record({name: value for name, value in record.items() if name not in ("pid", "pid_started", "boot")})
        self.folder.forget_start()

    def _gone(self) -> SandboxGone:
        return SandboxGone(f"The sandbox {self.ref} does not exist any more.")


def _running(folder: Folder) -> Process | None:
    """The sandbox's PID 1, if it lives."""
    record = folder.read_record()
    if "pid" not in record:
        return None
    process = Process(record["pid"], record["pid_started"], record["boot"])
    return process if process.is_alive() else None
