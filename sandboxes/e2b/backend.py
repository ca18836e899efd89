"""E2B: the contract of `sandboxes.base`, kept with the official SDK.

A sandbox is a virtual machine of E2B's. In it runs the same supervisor as in a local one, but as an ordinary process, with its
journal in a file, under the account that the agent has too: what it says is the sandbox's claim (see docs/internals.md). No
state lies in this process: the key is in the sandbox's metadata, so any process of ours can find, command and destroy it.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import re
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from e2b import AsyncSandbox, CommandExitException, SandboxQuery, SandboxState

from sandboxes import zipapp
from sandboxes.base import Backend, SandboxInfo, SandboxSpec
from sandboxes.e2b import inside, kept, machines
from sandboxes.e2b.account import Account, is_missing, is_passing, understood
from sandboxes.e2b.kept import INSTALLATION
from sandboxes.e2b.sandbox import E2BSandbox, last_words
from sandboxes.errors import PreparedGone, SandboxError, SandboxGone

logger = logging.getLogger(__name__)

KEY = "asynccode_key"  # the name of the key in a sandbox's metadata
DEFAULT_TEMPLATE = "base"
_TRIES, _PAUSE_S = 3, 1.0
_PREPARE_S = 60.0
_UPLOAD_S = 600.0
_REF = re.compile(r"[A-Za-z0-9_-]{1,100}")


class E2BBackend(Backend):
    """Sandboxes of one account, those of one `installation` only: the part of a key before its first colon.

    `timeout_s`: a sandbox that nobody follows or uses for so long is paused by E2B, with all that runs in it.
    """

    name = "e2b"

    def __init__(self, account: Account, *, installation: str, timeout_s: int) -> None:
        self.account, self.installation, self.timeout_s = account, installation, timeout_s

    async def create(self, key: str, spec: SandboxSpec) -> E2BSandbox:
        """A second create with the same key gives a second sandbox; `list` shows both."""
        ref = await self._create(key, spec)
        try:
            with understood("prepare the new sandbox"):
                vm, info = await asyncio.gather(
                    AsyncSandbox.connect(ref, timeout=self.timeout_s, **self.account.options),
                    AsyncSandbox.get_info(ref, **self.account.options),
                )
                await self._furnish(vm, spec)
            sandbox = E2BSandbox(self.account, info, self.timeout_s, vm)
            await sandbox.start(vm)
        except BaseException:
            await asyncio.shield(self._give_up(ref))
            raise
        return sandbox

    async def _create(self, key: str, spec: SandboxSpec) -> str:
        for is_last in (*[False] * (_TRIES - 1), True):
            try:
                with understood("make a sandbox", with_headers=bool(spec.headers)):
                    return await machines.create(
                        self.account,
                        spec.prepared or spec.template or DEFAULT_TEMPLATE,
                        spec.network,
                        spec.headers,
                        timeout_s=self.timeout_s,
                        metadata={INSTALLATION: self.installation, KEY: key},
                    )
            except SandboxError as error:
                if spec.prepared and is_missing(error.__cause__):
                    raise PreparedGone("E2B does not have this prepared environment any more.") from error
                if is_missing(error.__cause__):
                    raise SandboxError(
                        f"E2B has no template “{spec.template or DEFAULT_TEMPLATE}” for this account. "
                        "Build one with: manage.py e2b build-template"
                    ) from error
                if is_last or not is_passing(error):
                    raise
            await asyncio.sleep(_PAUSE_S)
        raise AssertionError

    async def _furnish(self, vm: AsyncSandbox, spec: SandboxSpec) -> None:
        """Put in what the supervisor needs."""
        with tempfile.TemporaryFile() as archive:
            uploads = [vm.files.write(inside.SUPERVISOR, zipapp.build(), user="root", request_timeout=_UPLOAD_S)]
            if spec.mirror is not None:
                await asyncio.to_thread(_pack, spec.mirror, archive)
                uploads.append(vm.files.write(inside.ARCHIVE, archive, user="root", request_timeout=_UPLOAD_S))
            await asyncio.gather(*uploads)
        try:
            await vm.commands.run(
                inside.furnish(is_prepared=bool(spec.prepared)), user="root", timeout=_UPLOAD_S, request_timeout=_PREPARE_S
            )
        except CommandExitException as error:
            raise SandboxError(f"The new sandbox could not be prepared: {last_words(error)}") from error

    async def connect(self, ref: str) -> E2BSandbox:
        if not _REF.fullmatch(ref):
            raise SandboxGone(f"“{ref}” is no sandbox of E2B.")
        with understood("say how a sandbox is"):
            info = await AsyncSandbox.get_info(ref, **self.account.options)
        if info.metadata.get(INSTALLATION) != self.installation:
            raise SandboxGone(f"{ref} is no sandbox of this installation.")
        return E2BSandbox(self.account, info, self.timeout_s)

    async def list(self) -> builtins.list[SandboxInfo]:
        """Those of this installation, running or paused."""
        found = []
        with understood("list the sandboxes"):
            pages = AsyncSandbox.list(query=SandboxQuery(metadata={INSTALLATION: self.installation}), **self.account.options)
            while pages.has_next:
                found += await pages.next_items()
        # What the filter means is E2B's to say; whose a sandbox is, is ours.
        ours = [info for info in found if info.metadata.get(INSTALLATION) == self.installation and KEY in info.metadata]
        return [SandboxInfo(info.metadata[KEY], info.sandbox_id, info.state == SandboxState.RUNNING) for info in ours]

    async def discard(self, prepared: str) -> None:
        with understood("delete a prepared environment"):
            await AsyncSandbox.delete_snapshot(prepared, **self.account.options)

    async def kept(self, *, for_s: float) -> builtins.list[str]:
        found = []
        with understood("list what is kept"):
            pages = AsyncSandbox.list_snapshots(**self.account.options)
            while pages.has_next:
                found += await pages.next_items()
        return [one.snapshot_id for one in found if kept.is_old(one.names, self.installation, for_s)]

    async def _give_up(self, ref: str) -> None:
        """Destroy what came to nothing. That this fails, too, is not what its caller should hear of."""
        try:
            with understood("destroy a sandbox"):
                await AsyncSandbox.kill(ref, **self.account.options)
        except SandboxError as error:
            logger.warning("The half-made sandbox %s is left to the reaper (%s).", ref, error)


def _pack(mirror: Path, into: IO[bytes]) -> None:
    """A bare repository of ours as an archive; packs are compressed already."""
    with tarfile.open(fileobj=into, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(mirror, arcname=".", filter=_plain)
    into.seek(0)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member
