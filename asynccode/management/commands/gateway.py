"""Run the gateway: the only way out of this host's local sandboxes, and to the models for sandboxes anywhere."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import close_old_connections, connection

from agents.apis.registry import APIS
from agents.broker import Broker, Open, shown
from agents.grants import Grant, Refusal
from agents.upstream import NotAllowed, Upstream
from sandboxes.addresses import Addresses
from sandboxes.egress import Attempt, HostError, PolicyError
from sandboxes.gateway import Gateway
from sandboxes.listener import Listener, parse_listen
from tasks.models import Beats
from tasks.running import heartbeats, log_context, model_access, network

logger = logging.getLogger(__name__)

THREADS = 4  # of the broker, with a database connection each
OUTSIDE_THREADS = 2  # more of them, for questions of sandboxes on other machines: these shall not hold up the local ones
REFUSED_S = 1.0  # how long one of those waits for a no, so that it cannot ask the database without end

P = ParamSpec("P")
T = TypeVar("T")


class Command(BaseCommand):
    help = "Let this host's local sandboxes reach what their network policy allows and the models, and record what they try and take."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        connection.settings_dict |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}  # of all threads
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        root = settings.DATA / "sandboxes"
        root.mkdir(parents=True, exist_ok=True)
        addresses = Addresses(settings.ALLOW_PRIVATE_HOSTS)

        async def resolve(scheme: str, host: str, port: int) -> list[str]:
            try:
                return await addresses(scheme, host, port)
            except (PolicyError, HostError) as error:
                raise NotAllowed(str(error)) from None

        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="broker")
        in_order = ThreadPoolExecutor(1, thread_name_prefix="attempts")
        outside = ThreadPoolExecutor(OUTSIDE_THREADS, thread_name_prefix="outside")
        open, note = opening(_in(threads, model_access.open), _in(outside, model_access.open)), _in(in_order, network.record)

        async def attempted(key: str, attempt: Attempt) -> None:
            log_context.begin(**_about(key))
            await note(key, attempt)

        broker = Broker(open=open, record=_in(threads, model_access.record), upstream=Upstream(resolve))
        gateway = Gateway(root, allow_private=settings.ALLOW_PRIVATE_HOSTS, on_attempt=attempted, service=broker)
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await asyncio.gather(gateway.serve(), _serve_outside(broker), _beat(threads))
        except asyncio.CancelledError:
            self.stdout.write("Stopped.")
        finally:
            await broker.close()


def opening(here: Open, elsewhere: Open) -> Open:
    """Whether a sandbox may ask, by one of these: that for local ones, and that for others. What is logged from then on of its request
    is about its run, also by the broker, which knows nothing of that."""

    async def open(key: str, token: str, provider: str) -> Grant | Refusal:
        log_context.begin(**_about(key))
        is_outside = model_access.is_outside(key)
        answer = await (elsewhere if is_outside else here)(key, token, provider)
        if isinstance(answer, Grant):
            log_context.add(run=answer.run_id, user=answer.user_id)
        elif is_outside:
            await asyncio.sleep(REFUSED_S)
        return answer

    return open


def _about(key: str) -> dict[str, int]:
    run = model_access.run_of(key)
    return {} if run is None else {"run": run}


async def _beat(threads: ThreadPoolExecutor) -> None:
    """Say that we are there, by the broker's own way to the database."""
    pulse = _in(threads, heartbeats.Pulse(Beats.GATEWAY))
    while True:
        await pulse()
        await asyncio.sleep(heartbeats.EVERY_S)


async def _serve_outside(broker: Broker) -> None:
    """Serve the models to sandboxes on other machines, if the operator wants that. What is wrong with it stops nothing else."""
    if not settings.GATEWAY_PUBLIC_URL:
        return
    try:
        where = parse_listen(settings.GATEWAY_LISTEN)
    except ValueError as error:
        logger.error("Sandboxes on other machines cannot reach the models: %s Local sandboxes go on.", error)
        return

    def identify(target: str, headers: list[tuple[str, str]]) -> str:
        return model_access.outside(shown(headers, target.partition("?")[2]))

    try:
        await Listener(where, paths=APIS, identify=identify, service=broker).serve()
    except Exception:
        logger.exception("Sandboxes on other machines cannot reach the models any more, until the gateway is started anew")


def _in(threads: ThreadPoolExecutor, function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """`function`, done in one of these threads."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()  # the database may have been away since the last time
        return function(*args, **kwargs)

    return sync_to_async(call, thread_sensitive=False, executor=threads)
