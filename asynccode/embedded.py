"""PostgreSQL and Valkey from wheels, for those who have none of their own; reached by unix sockets only.

As root they run under an account of their own, from a copy of their programs that it can read (the virtual environment
may lie under a closed folder). Whatever a life before left behind, running or half done, is put right at the start.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from asynccode.servers import NAME, EmbeddedError, Postgres, Server, Valkey
from sandboxes.errors import SandboxUnavailable
from sandboxes.local import accounts

__all__ = ["Embedded", "EmbeddedError"]

ACCOUNT = "asynccode-postgres"


class Embedded:
    """The services that belong to one data folder, held by one process at a time.

    `start`, `revive` and `stop` must be called from the main thread (see `die_with_parent`) and raise EmbeddedError.
    If this process is killed, the servers shut down by themselves.
    """

    def __init__(self, data: Path, sockets: Path, *, with_postgres: bool = True, with_valkey: bool = True, is_durable: bool = True) -> None:
        self.data = data
        self.sockets = sockets
        self._is_durable = is_durable
        self._wanted = [*([Postgres] if with_postgres else []), *([Valkey] if with_valkey else [])]
        self._servers: list[Server] = []
        self._lock: IO[str] | None = None

    def start(self) -> None:
        with _sentences(self.data):
            self._lock = _lock(self.data)
            try:
                if self._wanted:
                    self._start()
            except BaseException:
                self.stop()
                raise

    def revive(self) -> list[str]:
        """Start what has died since; the names of what had."""
        with _sentences(self.data):
            dead = [server for server in self._servers if not server.is_running()]
            for server in dead:
                server.clear()
                server.launch()
                server.wait_until_ready()
            return [server.name for server in dead]

    def stop(self) -> None:
        for server in self._servers:
            server.ask_to_stop()
        for server in self._servers:
            server.clear()
        self._servers = []
        if self._lock:
            self._lock.close()
            self._lock = None

    def environment(self) -> dict[str, str]:
        """How to reach what is embedded, as environment variables."""
        urls = {
            Postgres: ("DATABASE_URL", f"postgres://{NAME}@/{NAME}?host={quote(f'{self.sockets}/postgres')}"),
            Valkey: ("REDIS_URL", f"unix://{quote(f'{self.sockets}/valkey/valkey.sock')}"),
        }
        return dict(urls[kind] for kind in self._wanted)

    def _start(self) -> None:
        account = _account()
        _make(self.sockets)
        if self.sockets.is_symlink() or self.sockets.stat().st_uid != os.geteuid():  # it may lie in /tmp, where others set traps
            raise EmbeddedError(f"{self.sockets} is not ours. Remove it.")
        if account:
            _check_reach(self.data, account)
            _check_reach(self.sockets, account)
        _make(self.data / "runtime")
        self._servers = [kind(self.data, self.sockets, account, self._is_durable) for kind in self._wanted]
        for server in self._servers:
            server.clear()
        for server in self._servers:
            server.prepare()
            server.launch()
        for server in self._servers:
            server.wait_until_ready()


@contextmanager
def _sentences(data: Path) -> Iterator[None]:
    """Say what an error of the system means."""
    try:
        yield
    except SandboxUnavailable as error:
        raise EmbeddedError(str(error)) from error
    except OSError as error:
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                sentence = f"The disk that holds {data} is full."
            case errno.EACCES | errno.EPERM | errno.EROFS:
                sentence = (
                    f"{error.filename or data} cannot be used: {error.strerror}. Set ASYNCCODE_DATA to a folder that you may write to."
                )
            case _:
                sentence = f"The services in {data} could not be started: {error}."
        raise EmbeddedError(sentence) from error


def _lock(data: Path) -> IO[str]:
    """The data folder for us alone, until the file is closed or this process ends."""
    _make(data)
    file = open(os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")  # noqa: SIM115 (open as long as we hold it)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read().strip()
        file.close()
        raise EmbeddedError(
            f"asynccode is already running on {data} (process {holder}). Stop it first, or set ASYNCCODE_DATA to another folder."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _account() -> accounts.Account | None:
    return accounts.ensure(ACCOUNT) if os.geteuid() == 0 else None


def _make(folder: Path) -> None:
    """A folder that other accounts may pass through but not look into."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        folder.chmod(folder.stat().st_mode & 0o777 | 0o011)


def _check_reach(folder: Path, account: accounts.Account) -> None:
    for parent in folder.resolve().parents:
        status = parent.stat()
        bit = 0o100 if status.st_uid == account.uid else 0o010 if status.st_gid == account.gid else 0o001
        if not status.st_mode & bit:
            raise EmbeddedError(
                f"{parent} is closed to the account {account.name}, which runs the services in {folder}. "
                f"Open it with `chmod o+x {parent}`, or set ASYNCCODE_DATA to a folder elsewhere."
            )
