"""The network between a client and a server, which can be cut, closed, and made to lose an answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit


class Relay:
    """Passes bytes on to a server. `cut` breaks what is open; `is_closed` lets nobody in; `loses`: the next answer to a request that
    begins with these bytes is taken from the server and not passed on."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._to = ("127.0.0.1", parts.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://localhost:{self._listening.getsockname()[1]}"
        self.is_closed = False
        self.loses = b""
        self.lost = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.is_closed = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def cut(self) -> None:
        for one in list(self._open):
            _end(one)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.is_closed:
                    client.close()
                    continue
                self._start(self._pass, client)

    def _pass(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._to) as server:
            self._open |= {client, server}
            losing = threading.Event()
            self._start(self._pass_back, server, client, losing)
            while data := client.recv(65536):
                if self.loses and data.startswith(self.loses):
                    self.loses = b""
                    losing.set()
                server.sendall(data)
            self._open -= {client, server}
            _end(server)

    def _pass_back(self, server: socket.socket, client: socket.socket, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if losing.is_set():
                    self.lost += 1
                    break
                client.sendall(data)
        _end(client)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
