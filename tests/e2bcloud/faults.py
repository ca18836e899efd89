"""What goes wrong on purpose: faults that are set, each for a number of times or until it is cleared."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

_CREATE = r"^POST /v2/sandboxes$"
_REST = r"^[A-Z]+ /(v2/|v3/)?(sandboxes|templates|snapshots)"
_STREAMS = r"/process\.Process/(Start|Connect)$"
_ENVD = r"/(process\.Process|filesystem\.Filesystem|files|health)"

# Each kind with the calls it is about, unless the fault names others.
PATHS = {
    "429": _CREATE,
    "500": _REST,
    "503": _REST,
    "auth": "",
    "quota": _CREATE,
    "rules": rf"{_CREATE}|^PUT /(v2/)?sandboxes/[^/]+/network$",
    "slow_create": _CREATE,
    "delay": _ENVD,
    "drop_stream": _STREAMS,
    "stall_stream": _STREAMS,
    "split": _STREAMS,
    "vanish": "",
    "build": "",
}


@dataclass
class Fault:
    """`args` are the kind's own; `path` is searched in "METHOD /path", `sandbox` limits a fault to one sandbox."""

    id: int
    kind: str
    path: str
    count: int | None = None
    sandbox: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    hits: int = 0


class Faults:
    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._set: list[Fault] = []

    def add(self, kind: str, *, path: str | None = None, count: int | None = None, sandbox: str | None = None, **args: Any) -> Fault:
        """Raises KeyError for an unknown kind."""
        fault = Fault(next(self._ids), kind, path or PATHS[kind], count, sandbox, args)
        self._set.append(fault)
        return fault

    def clear(self, number: int | None = None) -> None:
        self._set = [fault for fault in self._set if number is not None and fault.id != number]

    def take(
        self, *kinds: str, call: str = "", sandbox: str | None = None, where: Callable[[dict[str, Any]], bool] | None = None
    ) -> Fault | None:
        """The first fault of these kinds that is about this call; it is used up by one."""
        for fault in self._set:
            if fault.kind not in kinds or (fault.count is not None and fault.hits >= fault.count):
                continue
            if fault.sandbox not in (None, sandbox) or not re.search(fault.path, call):
                continue
            if where is not None and not where(fault.args):
                continue
            fault.hits += 1
            return fault
        return None

    def listed(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._set]
