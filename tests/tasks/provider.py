"""A model provider on loopback that answers to a check of a key as it is told to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = "sk-good-0123456789abcdef"
MODELS = {"data": []}


@dataclass
class Provider:
    """`status` and `answer` (JSON, or bytes as they are) are for every key but GOOD."""

    address: str
    status: int = 401
    answer: Any = field(default_factory=lambda: {"error": {"message": "invalid x-api-key"}})
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # path, headers in lower case

    @property
    def url(self) -> str:
        return f"http://{self.address}"


@contextmanager
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            it.asked.append((self.path, headers))
            is_good = GOOD in "".join(headers.get(name, "") for name in ("x-api-key", "authorization", "x-goog-api-key"))
            status, answer = (200, MODELS) if is_good else (it.status, it.answer)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in it.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        it = Provider(f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield it
        finally:
            server.shutdown()
            thread.join()
