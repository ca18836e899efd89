"""The journal of a sandbox of E2B's: a stream for speed, the offset for truth.

What envd sends while nobody is subscribed is lost, and streams stall after a pause or for no reason. So each piece says at which
offset it lies: what does not fit is asked for again from where we are. The supervisor writes a beat every ten seconds; a stream
that says nothing for longer than two of them is taken for dead.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from e2b import AsyncCommandHandle, AsyncSandbox

from sandboxes.e2b import inside
from sandboxes.e2b.account import understood
from sandboxes.errors import SandboxError, SandboxGone

logger = logging.getLogger(__name__)

SILENCE_S = 25.0
_RELAY_S = 300  # then the relay leaves, and a new one goes on
_PAUSES_S = (0.2, 10.0)
_LINES = 16  # read ahead; a reader who is slow holds the stream up, not our memory

Machine = Callable[[], Awaitable[AsyncSandbox]]


class _TornError(Exception):
    """The stream is of no use any more: a piece is missing, or nothing comes."""


async def follow(machine: Machine, offset: int, *, timeout_s: int) -> AsyncGenerator[bytes, None]:
    """The bytes from `offset` on; ends when no supervisor writes any more and all was read, or `machine` raises SandboxGone."""
    pause = _PAUSES_S[0]
    life = _Life(timeout_s)
    while True:
        try:
            vm = await machine()
        except SandboxGone:
            return
        except SandboxError as error:
            logger.info("A journal cannot be read just now (%s).", error)
        else:
            try:
                async with contextlib.aclosing(_pieces(vm, offset, life)) as pieces:
                    async for piece in pieces:
                        if piece is None:
                            return
                        offset += len(piece)
                        pause = _PAUSES_S[0]
                        yield piece
                continue
            except (SandboxError, _TornError) as error:  # gone, too: that is `machine`'s to find out
                logger.info("The stream of a journal broke (%s); reading on from byte %s.", error, offset)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _PAUSES_S[1])


async def _pieces(vm: AsyncSandbox, offset: int, life: _Life) -> AsyncGenerator[bytes | None, None]:
    with understood("read the journal"):
        await life.renew(vm)
        async with contextlib.aclosing(_stream(vm, offset, life)) as pieces:
            async for piece in pieces:
                yield piece


class _Life:
    """Puts a sandbox's timeout off for as long as somebody reads."""

    def __init__(self, timeout_s: int) -> None:
        self._timeout_s, self._renewed_at = timeout_s, float("-inf")

    async def renew(self, vm: AsyncSandbox) -> None:
        if time.monotonic() - self._renewed_at > self._timeout_s / 4:
            await vm.set_timeout(self._timeout_s)
            self._renewed_at = time.monotonic()


async def _stream(vm: AsyncSandbox, offset: int, life: _Life) -> AsyncGenerator[bytes | None, None]:
    """Pieces from `offset` on, and None when that was all there will be. Ends when the relay has left."""
    lines: asyncio.Queue[str] = asyncio.Queue(_LINES)
    rest = ""

    async def take(text: str) -> None:
        nonlocal rest
        *whole, rest = (rest + text).split("\n")
        for line in filter(None, whole):
            await lines.put(line)

    command = inside.relay("follow", inside.STATE, str(offset), str(_RELAY_S))
    handle = await vm.commands.run(
        command, background=True, user=inside.USER, timeout=2 * _RELAY_S, on_stdout=take, request_timeout=SILENCE_S, retain_output=False
    )
    over = asyncio.create_task(_over(handle, lines))
    try:
        while (line := await _next(lines)) != _END:
            word, at, *data = line.split(" ")
            if word == "over" and int(at) == offset:
                yield None
                return
            if word != "data" or int(at) != offset or len(data) != 1:
                raise _TornError(f"at byte {offset} came “{line[:40]}”")
            piece = base64.b64decode(data[0])
            offset += len(piece)
            yield piece
            await life.renew(vm)
        await over
    finally:
        over.cancel()
        await asyncio.shield(_leave(handle))


_END = ""


async def _next(lines: asyncio.Queue[str]) -> str:
    try:
        async with asyncio.timeout(SILENCE_S):
            return await lines.get()
    except TimeoutError:
        raise _TornError(f"it said nothing for {SILENCE_S:g} s") from None


async def _over(handle: AsyncCommandHandle[None], lines: asyncio.Queue[str]) -> None:
    """Put the end into the queue, behind what came before it. What ended the stream comes out of this task."""
    try:
        await handle.wait()
    finally:
        await lines.put(_END)


async def _leave(handle: AsyncCommandHandle[None]) -> None:
    """Without it the relay would go on writing to nobody until its time is up."""
    try:
        async with asyncio.timeout(5):
            await handle.disconnect()
            await handle.kill()
    except Exception as error:  # whatever it is: the sandbox may be gone, and the relay leaves by itself
        logger.debug("A relay was not ended (%s).", error)
