"""Reads what an answer says of its usage as it passes, wherever it is cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from agents.apis.base import Api, Usage, json_of

A_TOKEN = 4  # bytes of text, roughly
MOST_BYTES = 16 * 1024**2  # of one message, or of an answer that is no stream; longer ones tell nothing

_BINARY = re.compile(rb"[A-Za-z0-9+/=]{2000,}")


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
        self._messages = 0
        self._body = bytearray()
        self._size = 0

    def feed(self, piece: bytes) -> None:
        if self._events is None:
            self._size += len(piece)
            if self._size <= MOST_BYTES:
                self._body += piece
            return
        for data in self._events.feed(piece):
            self._messages += 1
            if any(sign in data for sign in self._api.signs):
                self._read(data)

    def end(self) -> None:
        """The answer is over, and was not cut. What is no stream is read only now."""
        if self._events is None and self._size <= MOST_BYTES:
            self._read(bytes(self._body))

    def settle(self, asked: bytes) -> Usage:
        """The usage in the end. `asked` is the request's body.

        An answer that was cut before it told what it took has taken something all the same. Then a lower bound is guessed (a
        stream's message has a token at least), so that no budget is spared by hanging up early.
        """
        taken = self._messages or self._size // A_TOKEN
        if taken and not self.usage.is_whole:
            self.usage.input_tokens = self.usage.input_tokens or len(_BINARY.sub(b"", asked)) // A_TOKEN
            self.usage.output_tokens = max(self.usage.output_tokens, taken)
        return self.usage

    def _read(self, data: bytes) -> None:
        message = json_of(data)
        for one in message if isinstance(message, list) else [message]:  # Gemini's streams can be one list
            if isinstance(one, Mapping):
                self._api.read(one, self.usage)
