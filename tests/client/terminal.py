"""A program in a terminal of its own, as a person has it: what it drew, and what is typed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-B0-9]|[=>])")


class Terminal:
    def __init__(self, argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 (it takes no lock)
        )
        os.close(theirs)
        self.raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        """All that was written, without colors and without the movements of the cursor."""
        return _SEQUENCE.sub("", self.raw.decode(errors="replace"))

    def read(self, seconds: float = 0.1) -> bool:
        """Take what comes; False when the program has left its terminal."""
        if select.select([self._ours], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # Linux's way to say that nobody is at the other end
                more = os.read(self._ours, 65536)
                self.raw += more
                return bool(more)
            return False
        return True

    def until(self, words: str, seconds: float = 60.0) -> None:
        """Wait for words to be written."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert self.read(), f"it ended without {words!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {words!r}\n{self.text}"

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def ended(self, seconds: float = 60.0) -> int:
        """The exit code, once it has written all."""
        deadline = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < deadline, f"not over within {seconds:g} s:\n{self.text}"
        return self.process.wait(10)
