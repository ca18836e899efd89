"""Webhooks as GitHub delivers them: one after the other, signed, each with an id of its own, and never again by itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

_TIMEOUT_S = 10.0  # as long as GitHub waits


@dataclass
class Delivery:
    """`status` is 0 for one that got no answer."""

    event: str
    payload: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: int = 0
    response: str = ""


class Webhooks:
    """Delivers what happens to `url`, once `listen` said where to, in a thread of its own."""

    def __init__(self, complete: Callable[[Any], Any]) -> None:
        self.deliveries: list[Delivery] = []
        self._complete, self._url, self._secret = complete, "", ""
        self._events: frozenset[str] = frozenset()
        self._queue: queue.Queue[Delivery | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="webhooks")
        self._thread.start()

    def listen(self, url: str, secret: str, events: frozenset[str] = frozenset()) -> None:
        """From now on deliver there; without `events` all of them."""
        self._url, self._secret, self._events = url, secret, events

    def happened(self, event: str, payload: Any) -> None:
        if self._url and (not self._events or event in self._events):
            self._queue.put(Delivery(event, self._complete(payload)))

    def deliver(self, event: str, payload: dict[str, Any], *, id: str = "", secret: str | None = None) -> Delivery:
        """Deliver this now, and wait for the answer. The same `id` is what "Redeliver" at GitHub does; another secret forges it."""
        delivery = Delivery(event, self._complete(payload), **({"id": id} if id else {}))
        self._send(delivery, self._secret if secret is None else secret)
        return delivery

    def wait(self) -> None:
        """Until all that happened is delivered."""
        self._queue.join()

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (delivery := self._queue.get()) is not None:
            self._send(delivery, self._secret)
            self._queue.task_done()
        self._queue.task_done()

    def _send(self, delivery: Delivery, secret: str) -> None:
        body = json.dumps(delivery.payload).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/1a2b3c4",
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Delivery": delivery.id,
            "X-GitHub-Hook-ID": "1",
        }
        if secret:
            headers["X-Hub-Signature-256"] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        try:
            with build_opener(ProxyHandler({})).open(Request(self._url, body, headers), timeout=_TIMEOUT_S) as response:
                delivery.status, delivery.response = response.status, response.read().decode(errors="replace")
        except HTTPError as error:
            with error:
                delivery.status, delivery.response = error.code, error.read().decode(errors="replace")
        except (URLError, TimeoutError, ConnectionError) as error:
            delivery.response = str(error)
        self.deliveries.append(delivery)
