"""The few Linux calls the standard library does not offer."""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_SIGSET_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
    return result


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero), "prctl")


def hide() -> None:
    """No other process of this user may trace this one or look into its memory and descriptors (not dumpable)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Orphaned descendants become children of this process, as they do for a PID 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signum: int) -> None:
    """The kernel sends `signum` to this process when its parent dies; holds across exec."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def signal_fd(signals: Iterable[int]) -> int:
    """A non-blocking, close-on-exec descriptor that becomes readable when one of `signals` (blocked) is pending."""
    mask = bytearray(_SIGSET_BYTES)
    for signum in signals:
        mask[(signum - 1) // 8] |= 1 << (signum - 1) % 8
    buffer = (ctypes.c_ubyte * _SIGSET_BYTES).from_buffer(mask)
    return _check(_libc.signalfd(ctypes.c_int(-1), ctypes.byref(buffer), ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC)), "signalfd")
