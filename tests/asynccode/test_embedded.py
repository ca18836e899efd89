from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from asynccode import embedded, servers
from asynccode.embedded import Embedded, EmbeddedError
from asynccode.processes import pids_in, signal_all, wait_until
from tests.processes import ending

HOLDER = """
import signal, sys
from pathlib import Path
from asynccode.embedded import Embedded
data = Path(sys.argv[1])
services = Embedded(data, data / "sockets", is_durable=False)
services.start()
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="asynccode-embedded-", dir="/tmp"))
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def make(data: Path) -> Iterator[Callable[..., Embedded]]:
    data.parent.chmod(0o711)
    made: list[Embedded] = []

    def make(**options: bool) -> Embedded:
        made.append(Embedded(data, data / "sockets", is_durable=False, **options))
        return made[-1]

    yield make
    for services in made:
        services.stop()
    assert wait_until(lambda: not running(data), 10)


@pytest.fixture
def holder(data: Path, make: object) -> Iterator[subprocess.Popen[str]]:
    """Another process of ours that holds the services."""
    with ending(subprocess.Popen([sys.executable, "-c", HOLDER, str(data)], stdout=subprocess.PIPE, text=True)) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process


def running(data: Path) -> list[int]:
    return [pid for server in (servers.Postgres, servers.Valkey) for pid in pids_in(data / server.name, server.programs)]


def query(services: Embedded, statement: str) -> object:
    with psycopg.connect(services.environment()["DATABASE_URL"], autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def test_both_answer_by_the_urls_given(make: Callable[..., Embedded]) -> None:
    services = make()
    services.start()

    assert query(services, "SELECT current_database()") == ("asynccode",)
    with redis.Redis.from_url(services.environment()["REDIS_URL"]) as client:
        assert client.ping()


def test_what_was_stored_is_there_after_a_restart(make: Callable[..., Embedded]) -> None:
    services = make()
    services.start()
    query(services, "CREATE TABLE kept AS SELECT 1 AS number")
    services.stop()

    services.start()

    assert query(services, "SELECT number FROM kept") == (1,)


def test_nothing_listens_on_the_network_and_sockets_are_private(make: Callable[..., Embedded], data: Path) -> None:
    services = make()
    services.start()

    assert query(services, "SHOW listen_addresses") == ("",)
    with redis.Redis.from_url(services.environment()["REDIS_URL"], decode_responses=True) as client:
        assert client.config_get("port") == {"port": "0"}
    for name in ("postgres", "valkey"):
        assert (data / name).stat().st_mode & 0o777 == 0o700
        assert (data / "sockets" / name).stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_as_root_the_servers_run_under_an_account_of_their_own(make: Callable[..., Embedded], data: Path) -> None:
    make().start()

    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in running(data)}
    assert owners == {embedded.accounts.ensure(embedded.ACCOUNT).uid}


def test_a_name_with_blanks_and_signs_is_fine(data: Path) -> None:
    data.parent.chmod(0o711)
    folder = data.parent / "a folder & +%20"
    services = Embedded(folder, folder / "sockets", is_durable=False)
    services.start()
    try:
        assert query(services, "SELECT 1") == (1,)
        with redis.Redis.from_url(services.environment()["REDIS_URL"]) as client:
            assert client.ping()
    finally:
        services.stop()


def test_a_second_start_on_the_same_data_names_the_first(holder: subprocess.Popen[str], make: Callable[..., Embedded]) -> None:
    with pytest.raises(EmbeddedError, match=rf"already running on .* \(process {holder.pid}\)"):
        make().start()


def test_killing_the_holder_ends_the_servers(holder: subprocess.Popen[str], data: Path) -> None:
    assert running(data)

    holder.kill()

    assert wait_until(lambda: not running(data), 10)


def test_starts_right_after_the_holder_was_killed(holder: subprocess.Popen[str], make: Callable[..., Embedded]) -> None:
    holder.kill()
    holder.wait()
    services = make()
    began = time.monotonic()

    services.start()

    assert time.monotonic() - began < 5
    assert query(services, "SELECT 1") == (1,)


def test_starts_after_everything_was_killed(holder: subprocess.Popen[str], make: Callable[..., Embedded], data: Path) -> None:
    signal_all([holder.pid, *running(data)], signal.SIGKILL)
    holder.wait()
    assert (data / "postgres/postmaster.pid").exists()
    services = make()
    began = time.monotonic()

    services.start()

    assert time.monotonic() - began < 5
    assert query(services, "SELECT 1") == (1,)


def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(make: Callable[..., Embedded], data: Path) -> None:
    services = make(with_valkey=False)
    services.start()
    services.stop()
    (data / "postgres/postmaster.pid").write_text(f"{os.getppid()}\n{data}/postgres\n")

    services.start()

    assert query(services, "SELECT 1") == (1,)


def test_revive_starts_what_was_killed(make: Callable[..., Embedded], data: Path) -> None:
    services = make()
    services.start()
    postmaster = int((data / "postgres/postmaster.pid").read_text().splitlines()[0])
    assert services.revive() == []

    os.kill(postmaster, signal.SIGKILL)
    assert wait_until(lambda: services.revive() == ["postgres"], 5)

    assert query(services, "SELECT 1") == (1,)


def test_data_of_another_major_version_is_refused_with_a_sentence(make: Callable[..., Embedded], data: Path) -> None:
    services = make(with_valkey=False)
    services.start()
    services.stop()
    (data / "postgres/PG_VERSION").write_text("17\n")

    with pytest.raises(EmbeddedError, match="made by PostgreSQL 17, and this version of asynccode brings 18"):
        services.start()
    assert not running(data)


def test_damaged_data_is_reported_with_the_end_of_the_log(make: Callable[..., Embedded], data: Path) -> None:
    services = make(with_valkey=False)
    services.start()
    services.stop()
    (data / "postgres/global/pg_control").write_bytes(b"nonsense")

    with pytest.raises(EmbeddedError, match=r"(?s)postgres could not start.*pg_control"):
        services.start()


def test_an_initdb_that_was_killed_is_done_again(make: Callable[..., Embedded], data: Path) -> None:
    (data / "postgres.new").mkdir(parents=True)
    (data / "postgres.new/PG_VERSION").write_text("18\n")
    services = make(with_valkey=False)

    services.start()

    assert query(services, "SELECT 1") == (1,)
    assert not (data / "postgres.new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the servers as themselves")
def test_data_under_a_closed_folder_is_refused_with_a_sentence(make: Callable[..., Embedded], data: Path) -> None:
    data.parent.chmod(0o700)

    with pytest.raises(EmbeddedError, match=f"{data.parent} is closed to the account .*chmod o\\+x"):
        make().start()


def test_a_folder_that_cannot_be_written_is_refused_with_a_sentence(make: Callable[..., Embedded]) -> None:
    services = Embedded(Path("/proc/none"), Path("/proc/none/sockets"))

    with pytest.raises(EmbeddedError, match="/proc/none"):
        services.start()


def test_no_sockets_in_a_folder_that_somebody_else_made(data: Path, make: Callable[..., Embedded]) -> None:
    elsewhere = data.parent / "elsewhere"
    elsewhere.mkdir()
    trap = data.parent / "trap"
    trap.symlink_to(elsewhere)

    with pytest.raises(EmbeddedError, match="is not ours"):
        Embedded(data, trap).start()


def test_a_stale_socket_is_no_obstacle(make: Callable[..., Embedded], data: Path) -> None:
    services = make(with_postgres=False)
    services.start()
    services.stop()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(data / "sockets/valkey/valkey.sock"))

    services.start()
