"""The patches of the last turns: made in children, kept in files that no path reaches."""

from __future__ import annotations

import json
import os

from .processes import Call, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Optional

    from .loop import Loop, Timer
    from .patch import PatchMaker

_KEPT_TURNS = 2
_LEFT_OUT_MAX = 512 * 1024  # bytes of JSON; a journal record has room for twice that
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class PatchError(Exception):
    """The patch could not be made; the text is a sentence."""


class Patch:
    def __init__(self, fd: int, told: Mapping[str, Any]) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.sha256: str = told["sha256"]
        self.told: dict[str, Any] = {"sha256": self.sha256, "left_out": told["left_out"]}


class Patches:
    def __init__(self, loop: Loop, *, workspace: str, mirror: str, home: str, scratch: str) -> None:
        self._loop, self._workspace, self._mirror, self._scratch = loop, workspace, mirror, scratch
        self._places = (home, workspace)
        self._makers: dict[str, PatchMaker] = {}
        self._kept: dict[tuple[int, str], Patch] = {}

    def trust(self, spec: Mapping[str, Any]) -> None:
        """Remember the checkout that was just made, while nothing else is alive."""
        self._maker(spec).trust()

    def begin(self, turn: int) -> None:
        """Forget the patches of turns that are too old."""
        recent = sorted({turn, *(kept for kept, _ in self._kept)})[-_KEPT_TURNS:]
        for key in [key for key in self._kept if key[0] not in recent]:
            os.close(self._kept.pop(key).fd)

    def get(self, turn: int, kind: str) -> Optional[Patch]:
        return self._kept.get((turn, kind))

    def keep(self, turn: int, kind: str, patch: Patch) -> None:
        """The newest of its kind and turn replaces the one before."""
        before = self._kept.pop((turn, kind), None)
        if before is not None:
            os.close(before.fd)
        self._kept[turn, kind] = patch

    def start(self, spec: Mapping[str, Any], how: str, seconds: float) -> Making:
        """Make a patch in a child; `how` names the maker's method, `final` or `checkpoint`. PatchError when not even
        that can be done."""
        maker = self._maker(spec)
        maker.max_file_bytes, maker.max_patch_bytes = spec["max_file_bytes"], spec["max_patch_bytes"]
        try:
            os.makedirs(self._scratch, 0o700, exist_ok=True)  # a step may have tidied up
            fd = self._file()
        except OSError as error:
            raise PatchError(f"{describe(error)}.") from error
        return Making(self._loop, maker, how, fd, seconds)

    def _maker(self, spec: Mapping[str, Any]) -> PatchMaker:
        """One for each base commit, for good: it knows the checkout."""
        base: str = spec["checkout"]["base"]
        if base not in self._makers:
            from .patch import PatchMaker

            mirror = os.path.join(self._mirror, "objects")
            objects = mirror if os.path.isdir(mirror) else os.path.join(self._workspace, ".git", "objects")
            self._makers[base] = PatchMaker(
                self._workspace, self._scratch, [objects], base, spec["max_file_bytes"], spec["max_patch_bytes"]
            )
        return self._makers[base]

    def _file(self) -> int:
        """A new file without a name: on the sandbox's disk, where that can be done without ever giving it a name."""
        for place in self._places:
            try:
                return os.open(place, os.O_TMPFILE | os.O_EXCL | os.O_RDWR, 0o600)
            except OSError:  # a file system that cannot, or a folder the agent closed
                continue
        import tempfile

        fd, path = tempfile.mkstemp(dir=self._scratch)
        os.unlink(path)
        return fd


class Making:
    """A patch being made. `patch` gives it, or raises PatchError; its file is closed then."""

    def __init__(self, loop: Loop, maker: PatchMaker, how: str, fd: int, seconds: float) -> None:
        self._fd = fd
        self._seconds = seconds
        self._is_late = False
        is_advisory = how == "checkpoint"
        self._call = Call(loop, lambda: bounded(getattr(maker, how)(fd)), keep=[fd], nice=10 if is_advisory else 0)
        self._timer: Timer = loop.later(seconds, self._late)

    def kill(self) -> None:
        self._call.kill()

    async def patch(self) -> Patch:
        told = await self._call.result
        self._timer.cancel()
        try:
            if "error" in told:
                raise PatchError(f"The patch was not ready after {self._seconds:.0f} s." if self._is_late else told["error"])
            return Patch(self._fd, told)
        except (KeyError, TypeError, PatchError) as error:
            os.close(self._fd)
            raise PatchError(describe(error)) from error

    def _late(self) -> None:
        self._is_late = True
        self.kill()


def bounded(told: dict[str, Any]) -> dict[str, Any]:
    """The same, with a last entry for all the paths that would make `left_out` too long for the journal."""
    room, left_out = _LEFT_OUT_MAX, told["left_out"]
    for count, entry in enumerate(left_out):
        room -= len(json.dumps(entry)) + 1
        if room < 0:
            more = left_out[count:]
            rest = {"path": "…", "bytes": sum(each["bytes"] for each in more), "reason": f"and {len(more)} more"}
            return {**told, "left_out": [*left_out[:count], rest]}
    return told
