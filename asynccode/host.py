"""The services of one host, from the moment the database is ready to the moment it may be stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from asynccode.embedded import Embedded, EmbeddedError
from asynccode.processes import die_with_parent
from asynccode.startup import StartError
from asynccode.supervise import Log, Service, Supervisor
from tasks.running.interrupt import interrupt_host

_READY_S = 60.0
_ALONE_S = 5.0
_INTERRUPT_S = 60.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MANAGE = str(settings.BASE_DIR / "manage.py")


def environment() -> dict[str, str]:
    """What our own programs get: our environment, and what was decided since."""
    return os.environ | {
        "ASYNCCODE_DATA": str(settings.DATA),
        "PORT": str(settings.PORT),
        "DJANGO_SETTINGS_MODULE": "asynccode.settings",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def web_server(*where: str) -> tuple[list[str], dict[str, str]]:
    """The arguments of Python that serve the pages at a place in daphne's words, and what is added to their environment."""
    argv = ["-m", "daphne", *where, "--verbosity", "0", "--http-timeout", "600", "--no-server-name", "asynccode.asgi:application"]
    return argv, {"DATABASE_POOL": os.environ.get("DATABASE_POOL", "16")}


def services(listener: socket.socket) -> list[Service]:
    """Everything that runs besides the database, the web server first."""
    web, environment_of_web = web_server("--fd", str(listener.fileno()))
    programs = {
        "web": web,
        "worker": [MANAGE, "work", settings.QUEUE_HOST, settings.QUEUE_RUNS, "--workers", str(settings.WORKERS)],
        # Hours long: runs must not wait for them.
        "operations": [MANAGE, "work", settings.QUEUE_HOST_OPERATIONS, settings.QUEUE_OPERATIONS, "--workers", "2"],
        "cron": [MANAGE, "rqcron", "asynccode.cron", "--logging-level", "WARNING", "--skip-checks"],
        "follow": [MANAGE, "follow"],
        "gateway": [MANAGE, "gateway"],
    }
    return [
        Service(
            name,
            [sys.executable, *argv],
            env=environment() | (environment_of_web if name == "web" else {}),
            cwd=settings.BASE_DIR,
            pass_fds=(listener.fileno(),) if name == "web" else (),
        )
        for name, argv in programs.items()
    ]


class Host:
    """Runs the services until a signal comes or, given a command, until that ends.

    SIGINT and the command's end stop this host's sandboxes too; SIGTERM and SIGHUP leave them running.
    """

    def __init__(self, log: Log, embedded: Embedded, listener: socket.socket) -> None:
        self._log = log
        self._embedded = embedded
        self._listener = listener
        self._supervisor = Supervisor(log, settings.DATA / "services")
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()

    async def run(self, *, command: str | None, greeting: str) -> int:
        """The exit code: the command's, else 0."""
        loop = asyncio.get_running_loop()
        for sig in _STOP_SIGNALS:
            loop.add_signal_handler(sig, self._signals.put_nowait, sig)
        ready = asyncio.create_task(self._web_answers())
        helpers = [ready, asyncio.create_task(self._start(ready)), asyncio.create_task(self._watch_servers())]
        try:
            return await (self._until_signal(ready, greeting) if command is None else self._until_end_of(ready, command))
        finally:
            for helper in helpers:
                helper.cancel()
            stopping = asyncio.create_task(self._supervisor.stop())
            await self._signal_before(stopping)
            if not stopping.done():
                self._supervisor.kill()
                await stopping

    async def _start(self, ready: asyncio.Task[None]) -> None:
        """The web server first: on a small machine the others would make its start twice as long."""
        web, *rest = services(self._listener)
        self._supervisor.start([web])
        await asyncio.wait({ready}, timeout=_ALONE_S)
        self._supervisor.start(rest)

    async def _until_signal(self, ready: asyncio.Task[None], greeting: str) -> int:
        sig = await self._signal_before(ready)
        if sig is None:
            self._log.plain(greeting)
            sig = await self._signals.get()
        if sig == signal.SIGINT:
            await self._interrupt()
        return 0

    async def _until_end_of(self, ready: asyncio.Task[None], command: str) -> int:
        sig = await self._signal_before(ready, seconds=_READY_S)
        if not ready.done():
            if sig is None:
                raise StartError(f"The web server did not answer within {_READY_S:.0f} s; see above.")
            return 128 + sig
        code = await self._run_command(command)
        await self._interrupt()
        return code

    async def _run_command(self, command: str) -> int:
        """Run the command as a shell would: in a process group of its own, which has the terminal while it runs."""
        terminal = 0 if os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp() else None
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, env=self._command_environment(), process_group=0, preexec_fn=_foreground(terminal)
        )
        ended = asyncio.create_task(process.wait())
        is_told = False
        while not ended.done():
            if sig := await self._signal_before(ended):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL if is_told else sig)
                is_told = True
        if terminal is not None:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # or taking the terminal back would stop us
            os.tcsetpgrp(terminal, os.getpgrp())
        code = ended.result()
        return 128 - code if code < 0 else code

    def _command_environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": settings.DATABASE_URL,
            "REDIS_URL": settings.REDIS_URL,
            **os.environ,
            **self._embedded.environment(),
            "ASYNCCODE_URL": settings.BASE_URL,
            "ASYNCCODE_DATA": str(settings.DATA),
            "PORT": str(settings.PORT),
            # Their default depends on whose database it is, which the command could no longer tell.
            "LOCAL_REPO_ROOTS": ":".join(map(str, settings.LOCAL_REPO_ROOTS)),
        }

    async def _interrupt(self) -> None:
        """Checkpoint and stop this host's sandboxes, while the follower still sees to their last events."""
        self._log.line("up", "stopping the sandboxes (Ctrl-C again leaves them running)")
        done = _in_thread(interrupt_host)
        await self._signal_before(done, seconds=_INTERRUPT_S)
        if not done.done():
            self._log.line("up", "some sandboxes are still running")
        elif error := done.exception():
            self._log.line("up", f"the sandboxes could not be stopped: {error}")

    async def _signal_before(self, work: asyncio.Future[Any], seconds: float | None = None) -> signal.Signals | None:
        """Wait for `work`, but no longer than to the next signal or the timeout; the signal, if it was one."""
        asked = asyncio.create_task(self._signals.get())
        await asyncio.wait({work, asked}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            return asked.result()
        asked.cancel()
        return None

    async def _web_answers(self) -> None:
        """Return once a page is answered. The socket is open already: the first request just waits for its server."""
        host, port = self._listener.getsockname()
        name = urlsplit(settings.BASE_URL).netloc
        while True:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"HEAD / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            with suppress(ConnectionError):
                if await reader.read(1):
                    return
            writer.close()
            await asyncio.sleep(0.2)

    async def _watch_servers(self) -> None:
        """Start the database and Redis again when they die."""
        while True:
            await asyncio.sleep(1)
            try:
                for name in self._embedded.revive():
                    self._log.line(name, "had ended and was started again")
            except EmbeddedError as error:
                self._log.line("up", str(error))
                await asyncio.sleep(5)


def _foreground(terminal: int | None) -> Callable[[], None]:
    """A `preexec_fn` that gives the terminal to the child's process group, and the child our death."""
    die = die_with_parent(signal.SIGTERM)

    def arrange() -> None:
        die()
        if terminal is not None:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(terminal, os.getpgrp())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)

    return arrange


def _in_thread(work: Callable[[], object]) -> asyncio.Future[None]:
    """Run blocking work in a thread that nobody has to wait for, unlike those of the loop's own executor."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def run() -> None:
        error = None
        try:
            work()
        except Exception as caught:  # whoever waits reports it
            error = caught
        with suppress(RuntimeError):  # the loop was closed: it was no longer waited for
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, daemon=True).start()
    return done
