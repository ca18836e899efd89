"""Reads what an answer says of its usage as it passes, wherever it is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agents.apis.base import Api, Usage, json_of

MOST_BYTES = 16 * 1024**2  # of one message, or of an answer that is no stream; longer ones tell nothing


class Events:
    """A stream of server-sent events: pieces of it in, the data of each whole event out."""

    def __init__(self) -> None:
        self._line = bytearray()  # what there is of the present one
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        first, *others = piece.split(b"\n")
        self._add(first)
        for other in others:
            line = bytes(self._line).removesuffix(b"\r")
            self._line.clear()
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line:
                if self._data and self._size <= MOST_BYTES:
                    yield b"\n".join(self._data)
                self._data.clear()
                self._size = 0
            self._add(other)

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MOST_BYTES:
            self._line += data


class Meter:
    """What an answer has said of its usage until now."""

    def __init__(self, api: Api, content_type: str) -> None:
        self.usage = Usage()
        self._api = api
        self._events = Events() if content_type.lower().startswith("text/event-stream") else None
        self._body = bytearray()
        self._size = 0

    def feed(self, piece: bytes) -> None:
        if self._events is None:
            self._size += len(piece)
            if self._size <= MOST_BYTES:
                self._body += piece
            return
        for data in self._events.feed(piece):
            if any(sign in data for sign in self._api.signs):
                self._read(data)

    def end(self) -> None:
        """The answer is over, and was not cut. What is no stream is read only now."""
        if self._events is None and self._size <= MOST_BYTES:
            self._read(bytes(self._body))

    def _read(self, data: bytes) -> None:
        message = json_of(data)
        for one in message if isinstance(message, list) else [message]:  # Gemini's streams can be one list
            if isinstance(one, Mapping):
                self._api.read(one, self.usage)
