"""What `up` does before the services start, step by step; each fails with a sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType

import redis
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from redis.backoff import NoBackoff
from redis.retry import Retry

from asynccode.processes import listener_on
from sandboxes.local import accounts, selftest
from tasks import audit
from tasks.accounts import create_login_link
from tasks.models import AuditKind, User

FIRST_OPERATOR = "operator"
_MIGRATION_LOCK = 0x61_73_79_6E  # any number, the same in every process


class StartError(Exception):
    """asynccode cannot be started; the message is a sentence a user can act on."""


class Terminated(Exception):
    """Somebody asked us to end before everything was up."""


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Until the services run, a request to end unwinds what has been started so far."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, terminate)
    yield


@contextmanager
def listen(host: str, port: int | None, *, is_any_fine: bool) -> Iterator[socket.socket]:
    """The web server's socket, opened here: a port that we hold stays ours when the web server restarts."""
    wanted = port if port is not None else 0 if is_any_fine else settings.PORT
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
        except (OSError, OverflowError) as error:
            raise StartError(_why_not(error, host, wanted)) from error
        listener.listen(1024)
        listener.setblocking(False)
        settings.PORT = listener.getsockname()[1]
        settings.BASE_URL = settings.PUBLIC_URL or f"http://localhost:{settings.PORT}"
        yield listener


def check_sandbox() -> None:
    """Raises SandboxUnavailable: without a sandbox nothing may run, so nothing starts."""
    if settings.SANDBOX_BACKEND == "local":
        account = accounts.ensure(accounts.SANDBOX_ACCOUNT) if os.geteuid() == 0 else None
        selftest.check(root=settings.DATA / "sandboxes", runtime=settings.DATA / "runtime", account=account)


def check_services() -> None:
    try:
        connection.ensure_connection()
    except OperationalError as error:
        raise StartError(f"PostgreSQL (DATABASE_URL) cannot be used: {str(error).strip()}") from error
    client = redis.Redis.from_url(settings.REDIS_URL, retry=Retry(NoBackoff(), 0), socket_connect_timeout=5)
    try:
        client.ping()
    except redis.RedisError as error:
        raise StartError(f"Redis (REDIS_URL) cannot be used: {error}") from error
    finally:
        client.close()


def migrate() -> None:
    """Bring the tables up to date; one process at a time, wherever the others run."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        try:
            executor = MigrationExecutor(connection)
            if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                call_command("migrate", interactive=False, verbosity=0)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATION_LOCK])


def collect_static() -> None:
    """Collect the static files when one of their sources has changed, unless that was done before for good."""
    if settings.ARE_STATIC_FILES_COLLECTED:
        return
    try:
        root = Path(settings.STATIC_ROOT)
        root.mkdir(exist_ok=True)
        sources, stamp = _static_sources(), root / ".sources"
        if not stamp.exists() or stamp.read_text() != sources:
            call_command("collectstatic", interactive=False, clear=True, verbosity=0)
            stamp.write_text(sources)
    except OSError as error:
        raise StartError(f"The static files cannot be collected in {settings.STATIC_ROOT}: {error}.") from error


def first_operator() -> User:
    """The operator that was there first; made, if there is nobody at all."""
    if not User.objects.exists():
        with transaction.atomic():
            user = User.objects.create_superuser(FIRST_OPERATOR)
            audit.record(AuditKind.USER_ADDED, by=None, subject=user, username=user.username, way="first start")
    operator = User.objects.filter(is_active=True, is_staff=True).order_by("pk").first()
    if operator is None:
        raise StartError("No user is an operator. Make one: .venv/bin/python manage.py createsuperuser")
    return operator


def login_link(operator: User) -> str:
    return create_login_link(user=operator)


def _static_sources() -> str:
    """A digest of every static file and of what makes them into what is served."""
    digest = hashlib.sha256(f"{settings.STORAGES['staticfiles']} {version('whitenoise')} {version('django')}".encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            with storage.open(path) as file:
                digest.update(f"\0{path}\0".encode())
                digest.update(file.read())
    return digest.hexdigest()


def _why_not(error: Exception, host: str, port: int) -> str:
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            holder = listener_on(port)
            return f'Port {port} is taken{f" (by {holder})" if holder else ""}. Choose another: make run ARGS="--port N".'
        case errno.EACCES:
            return f"Port {port} may be opened by root only. Use --port N with 1024 or more."
        case _:
            return f"{host}:{port} cannot be listened on: {error}."
