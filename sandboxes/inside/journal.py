"""The journal: one JSON object a line, numbered, appended with one write, held by an exclusive lock."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Optional

LINE_MAX = 1024 * 1024  # bytes of one output line, as read and as written
_PIECE = 16 * 1024

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class JournalHeldError(Exception):
    """Another supervisor holds this journal."""


class Journal:
    """Appends records and knows what an earlier supervisor has already written into the same file.

    `fd` is open for reading and appending. A write that fails (a full disk) is never lost silently: `trouble` says
    why, `flush` tries again; meanwhile output is dropped, and only the few records about steps and turns are kept.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalHeldError("Another supervisor is running on this journal.") from error
        self._pending = bytearray()
        self.trouble: Optional[str] = None
        self.begun: list[tuple[int, int]] = []  # (generation, turn), in order
        self.open_turn: Optional[int] = None  # begun and not ended: its supervisor died
        self.checkout: Optional[str] = None  # None: never tried, "torn": begun or failed, "done": the workspace stands
        self._number = 0
        self._read_past()

    def append(self, kind: str, **fields: Any) -> None:
        """Write one record. Never raises; see `trouble`."""
        self._write(self._head(kind) + self._body(fields))

    def output(self, kind: str, turn: int, step: str, lines: Iterable[tuple[bytes, int]]) -> int:
        """Write output lines, each with the number of bytes already left out of it, at once. Returns the bytes
        written, 0 when the journal is in trouble and they were dropped."""
        if self.trouble and not self.flush():
            return 0
        fixed = f'"turn":{turn},"step":{_encode(step)},"line":'
        records = []
        for raw, left_out in lines:
            text, cut = _line(raw, left_out)
            records.append(f'{self._head(kind)}{fixed}{text},"cut":{cut}}}\n' if cut else f"{self._head(kind)}{fixed}{text}}}\n")
        batch = "".join(records)
        if not batch:
            return 0
        return self._write(batch)

    def flush(self) -> bool:
        """Try to write what could not be written; whether nothing is owed any more."""
        while self._pending:
            try:
                written = os.write(self._fd, self._pending)
            except OSError as error:
                self.trouble = f"The journal could not be written: {error.strerror}."
                return False
            del self._pending[:written]
        self.trouble = None
        return True

    def _head(self, kind: str) -> str:
        self._number += 1
        return f'{{"n":{self._number},"t":{time.time():.3f},"kind":"{kind}",'

    def _body(self, fields: Mapping[str, Any]) -> str:
        return _encode(fields)[1:] + "\n"

    def _write(self, text: str) -> int:
        data = _utf8(text)
        self._pending += data
        self.flush()
        return len(data)

    def _read_past(self) -> None:
        """Learn the last number and what was begun and ended; close a torn last line, so that readers skip it."""
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            line = b"\n"
            last_output: deque[bytes] = deque(maxlen=2)  # the very last line may be torn
            for line in file:
                if b'"kind":"out"' in line[:80] or b'"kind":"err"' in line[:80]:
                    last_output.append(line)
                elif self._learn(line):
                    last_output.clear()
            for output in last_output:
                self._learn(output)
        if not line.endswith(b"\n"):
            self._pending += b"\n"
            self.flush()

    def _learn(self, line: bytes) -> bool:
        """Take a record in; False when it is none."""
        try:
            record = json.loads(line.decode("utf-8"))
        except ValueError:  # torn
            return False
        self._number, kind = record["n"], record["kind"]
        if kind == "turn":
            self.open_turn = record["turn"]
            self.begun.append((record["generation"], record["turn"]))
        elif kind == "end":
            self.open_turn = None
        elif kind == "step" and record["step"] == "checkout":
            self.checkout = "done" if record["state"] == "ended" and (record["reason"], record["code"]) == ("exit", 0) else "torn"
        return True


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # names of files may hold bytes that are no text
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode("utf-8")


def _line(raw: bytes, left_out: int) -> tuple[str, int]:
    """An output line as a JSON string of at most LINE_MAX bytes (and quotes), and how many of its bytes are not in it.

    Bytes that are no UTF-8 become U+FFFD, and control characters need six bytes each: a line may have to be cut
    although it is shorter than LINE_MAX. A character that the cut splits is left out whole.
    """
    if not left_out:
        text = _encode(raw.decode("utf-8", "replace"))
        if len(raw) * 6 <= LINE_MAX or len(text.encode("utf-8")) <= LINE_MAX + 2:
            return text, 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces, size, taken, split = [], 0, 0, 0
    while taken < len(raw):
        piece = _encode(decoder.decode(raw[taken : taken + _PIECE]))[1:-1]
        size += len(piece.encode("utf-8"))
        if size > LINE_MAX:
            break
        pieces.append(piece)
        taken = min(taken + _PIECE, len(raw))
        split = len(decoder.getstate()[0])
    return f'"{"".join(pieces)}"', left_out + len(raw) - taken + split
