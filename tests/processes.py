"""Processes of tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

P = TypeVar("P", bound="subprocess.Popen[str] | subprocess.Popen[bytes]")


@contextmanager
def ending(process: P) -> Iterator[P]:
    """A process that is killed in the end if it still runs. Python itself would wait for it, after a test that failed for ever."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
