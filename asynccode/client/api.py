"""Requests to the API: retried where that makes nothing twice, with the server's own sentence when they fail."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import click
import httpx

from asynccode.client.failures import Failure, NotSignedIn, Unreachable

PATIENCE_S = 15.0  # with a server that is away, where nothing else is said
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
SILENCE_S = 45.0  # a stream says every 15 s that it is there
_BUSY = (429, 502, 503, 504)


class Busy(Unreachable):
    """It may help to ask again: after `seconds`, if the server says so."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


class Api:
    """One server, asked with one token. Proxies and authorities are those of the environment, as httpx reads it."""

    def __init__(self, server: str, token: str) -> None:
        self.server = server
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "asynccode-client"}
        self._http = httpx.Client(base_url=f"{server}/api/v1", headers=headers, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def get(self, path: str, *, patience: float = 0.0, **query: str | int) -> Any:
        """The JSON at a path below /api/v1; a server that is away is given `patience` seconds to come back."""
        return self._json(self._send("GET", path, patience=patience, params=query or None))

    def download(self, path: str) -> httpx.Response:
        return self._send("GET", path)

    def post(self, path: str, body: Any = None, *, key: str = "") -> Any:
        """Do something once, however often it has to be sent; `key`: once for all commands that give the same one."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self._json(self._send("POST", path, headers=headers, **({} if body is None else {"json": body})))

    def upload(self, path: str, name: str, content: bytes, *, key: str = "") -> Any:
        """Send a file, once as `post` does it."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self._json(self._send("POST", path, headers=headers, files={"file": (name, content)}))

    @contextmanager
    def stream(self, path: str, last: int) -> Iterator[Iterator[str]]:
        """The lines of a stream of server-sent events, after the event `last`. Busy where it does not begin or breaks off."""
        headers = {"Last-Event-ID": str(last), "Accept": "text/event-stream, application/problem+json"}
        timeout = httpx.Timeout(SILENCE_S, connect=10.0)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    response.read()
                    raise self._failure(response)
                yield response.iter_lines()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _send(self, method: str, path: str, *, patience: float = 0.0, **options: Any) -> httpx.Response:
        deadline, pause = time.monotonic() + (patience or PATIENCE_S), FIRST_PAUSE_S
        while True:
            failure: Failure
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                failure = self._unreachable(error)
            else:
                if response.is_success:
                    return response
                failure = self._failure(response)
            if not isinstance(failure, Busy):
                raise failure
            wanted = pause if failure.seconds is None else failure.seconds
            if time.monotonic() + wanted > deadline:
                raise failure
            if sys.stderr.isatty():
                click.echo(f"{self.server} does not answer as it should; asking again …", err=True)
            time.sleep(wanted)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _unreachable(self, error: httpx.TransportError) -> Busy:
        why = str(error) or type(error).__name__
        return Busy(f"{self.server} cannot be reached ({why}). Check the address and the network, or try again in a moment.", None)

    def _failure(self, response: httpx.Response) -> Failure:
        """What an answer that is no success means, in the words of its problem (RFC 9457)."""
        try:
            problem = response.json()
            sentence, code = str(problem["detail"]), str(problem["code"])
        except (ValueError, KeyError, TypeError):
            sentence = f"{self.server} answered {response.status_code}, but not as asynccode does. Check the address."
            return Busy(sentence, None) if response.status_code in _BUSY else Unreachable(sentence)
        if response.status_code == 401:
            return NotSignedIn(f"{sentence} Then: asynccode login {self.server}")
        if response.status_code in _BUSY or code == "idempotency_key_in_use":
            after = response.headers.get("Retry-After", "")
            return Busy(sentence, float(after) if after.isascii() and after.isdigit() else None)
        return Failure(sentence)

    def _json(self, response: httpx.Response) -> Any:
        try:
            return json.loads(response.content)
        except ValueError as error:
            raise Unreachable(f"{self.server} answered, but not as asynccode does. Check the address.") from error
