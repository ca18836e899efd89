"""One sandbox of E2B's: the supervisor's control protocol through the SDK's commands and files."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

from e2b import AsyncSandbox, CommandExitException, SandboxInfo, SandboxState

from sandboxes.base import FetchedPatch, SandboxSpec
from sandboxes.e2b import inside, kept, machines, network
from sandboxes.e2b.account import Account, understood
from sandboxes.e2b.journal import follow
from sandboxes.errors import SandboxError, SandboxGone
from sandboxes.supervised import ANSWER_S, FILE_S, SupervisedSandbox, checked, within

_START_S = 60.0
_INLINE_MAX = 48 * 1024  # of a request in a command's arguments; the rest goes as a file


class E2BSandbox(SupervisedSandbox):
    """A sandbox as E2B described it when this was made: running or paused.

    A paused one is woken up only by `resume`, and for what is read of it, after which it sleeps again."""

    def __init__(self, account: Account, info: SandboxInfo, timeout_s: int, vm: AsyncSandbox | None = None) -> None:
        self.account, self.timeout_s = account, timeout_s
        self.ref = info.sandbox_id
        self._info = info
        self._is_paused = info.state == SandboxState.PAUSED
        self._vm = vm
        self._readers = 0  # of those who may find it paused
        self._is_borrowed = False  # awake for readers only

    @property
    def record(self) -> dict[str, Any]:
        """isolation, account (a mark of the key), and what E2B says of it: template, started_at, cpus and memory_mb."""
        return {
            "isolation": "E2B microVM",
            "account": self.account.mark,
            "template": self._info.name or self._info.template_id,
            "started_at": self._info.started_at.timestamp(),
            "cpus": self._info.cpu_count,
            "memory_mb": self._info.memory_mb,
        }

    async def patch(self, turn: int, kind: str) -> FetchedPatch:
        """Also of a paused sandbox, and after its resume: the checkpoint of the turn that `pause` ended."""
        async with self._read():
            await self._woken()
            return await super().patch(turn, kind)

    async def journal(self, offset: int) -> AsyncIterator[bytes]:
        """Keeps the sandbox from its timeout for as long as it is read."""
        async with self._read():
            async for chunk in follow(self._woken, offset, timeout_s=self.timeout_s):
                yield chunk

    async def alive(self) -> bool:
        try:
            return not await self._looks_paused()
        except SandboxGone:
            return False

    async def pause(self) -> None:
        if self._is_paused:
            return
        with contextlib.suppress(SandboxError):  # it does not answer or cannot: what follows stops it all the same
            await self._shutdown()
        await self._sleep()

    async def _sleep(self) -> None:
        with understood("pause a sandbox"):
            await AsyncSandbox.pause(self.ref, **self.account.options)
        self._vm, self._is_paused = None, True

    async def resume(self, spec: SandboxSpec | None = None) -> None:
        """Also starts the supervisor where it does not run any more, as after a pause."""
        self._is_borrowed = False
        with understood("wake a sandbox"):
            await machines.wake(self.account, self.ref, timeout_s=self.timeout_s)
        vm = await self._wake()
        if spec is not None:
            with understood("change a sandbox's network", with_headers=bool(spec.headers)):
                await vm.update_network(network.update(spec.network, spec.headers))
        await self.start(vm)

    async def start(self, vm: AsyncSandbox) -> None:
        """The supervisor, if none runs."""
        try:
            with understood("start the supervisor"):
                await vm.commands.run(inside.start(), user=inside.USER, timeout=_START_S, request_timeout=_START_S)
        except SandboxError as error:
            if isinstance(error.__cause__, CommandExitException):
                raise SandboxError(f"The sandbox did not start: {last_words(error.__cause__)}") from error
            raise

    async def keep(self) -> str:
        await self._tidy()
        await self._shutdown()
        with understood("keep a prepared environment"):
            name = kept.name_of(self._info.metadata[kept.INSTALLATION])
            made = await AsyncSandbox.create_snapshot(self.ref, name=name, request_timeout=FILE_S, **self.account.options)
        return made.snapshot_id

    async def destroy(self) -> None:
        self._vm = None
        with contextlib.suppress(SandboxGone), understood("destroy a sandbox"):
            await AsyncSandbox.kill(self.ref, **self.account.options)

    # The machine

    async def _machine(self) -> AsyncSandbox:
        """The SDK's own, running; SandboxGone when it is paused or not there."""
        if self._is_paused:
            raise SandboxGone(f"The sandbox {self.ref} is paused.")
        return self._vm or await self._wake()

    async def _wake(self) -> AsyncSandbox:
        """Running from now on, for `timeout_s` at least."""
        with understood("wake a sandbox"):
            self._vm = await AsyncSandbox.connect(self.ref, timeout=self.timeout_s, **self.account.options)
        self._is_paused = False
        return self._vm

    async def _woken(self) -> AsyncSandbox:
        """As `_machine`, but a paused one is woken up for as long as somebody reads; SandboxGone when there is none."""
        if await self._looks_paused():
            self._is_borrowed = True
            self._vm = None
        return self._vm or await self._wake()

    async def _looks_paused(self) -> bool:
        with understood("say how a sandbox is"):
            info = await AsyncSandbox.get_info(self.ref, **self.account.options)
        return bool(info.state == SandboxState.PAUSED)

    @contextlib.asynccontextmanager
    async def _read(self) -> AsyncIterator[None]:
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if self._is_borrowed and not self._readers:
                self._is_borrowed = False
                with contextlib.suppress(SandboxGone):
                    await self._sleep()

    # The supervisor

    async def _ask(self, what: str, timeout_s: float, payload: bytes = b"", /, **message: Any) -> tuple[dict[str, Any], bytes]:
        vm = await self._machine()
        with understood(f"pass “{what}” on to the supervisor"):
            words = await self._carry(vm, {"do": what, **message}, payload)
            try:
                done = await vm.commands.run(
                    inside.relay("ask", inside.STATE, *words), user=inside.USER, timeout=timeout_s, request_timeout=ANSWER_S
                )
            except CommandExitException as error:
                raise SandboxGone(f"The sandbox did not answer “{what}”: {last_words(error)}") from error
            reply, content = await self._answer(vm, what, done.stdout or "")
        return checked(what, reply), content

    async def _carry(self, vm: AsyncSandbox, message: dict[str, Any], payload: bytes) -> list[str]:
        """The relay's arguments; what is too long for them is put into files first."""
        name = f"in-{secrets.token_hex(8)}"
        raw, request = json.dumps({**message, "size": len(payload)} if payload else message).encode(), f"@{name}.json"
        if payload:
            await vm.files.write(f"{inside.STATE}/{name}.raw", payload, user=inside.USER, request_timeout=FILE_S)
        if len(raw) > _INLINE_MAX:
            await vm.files.write(f"{inside.STATE}/{name}.json", raw, user=inside.USER, request_timeout=FILE_S)
        else:
            request = base64.b64encode(raw).decode()
        return [request, f"{name}.raw"] if payload else [request]

    async def _answer(self, vm: AsyncSandbox, what: str, said: str) -> tuple[dict[str, Any], bytes]:
        word, *parts = said.split() or [""]
        if word != "reply" or len(parts) != 2:
            raise SandboxGone(f"The sandbox's answer to “{what}” was cut.")
        reply = json.loads(base64.b64decode(parts[0]))
        size = within(reply.get("size", 0))  # the relay lets no more through; but it is the sandbox's
        if not parts[1].startswith("@"):
            return reply, b"" if parts[1] == "-" else base64.b64decode(parts[1])
        content = await vm.files.read(f"{inside.STATE}/{parts[1][1:]}", format="bytes", user=inside.USER, request_timeout=FILE_S)
        if len(content) != size:
            raise SandboxGone(f"The sandbox's answer to “{what}” was cut.")
        return reply, bytes(content)


def last_words(error: CommandExitException) -> str:
    """What a command said last that ended badly."""
    return (error.stderr or error.stdout or str(error)).strip()[-500:]
