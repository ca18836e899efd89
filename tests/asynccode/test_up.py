"""`manage.py up`, the whole of it, on real services in a data folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from asynccode.processes import pids_of_session, wait_until
from tests.processes import ending

_OURS = ("ASYNCCODE_DATA", "DATABASE_URL", "REDIS_URL", "SECRET_KEY", "LOCAL_REPO_ROOTS", "PORT")


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """One data folder for all of them: only the first start has to make a database."""
    folder = Path(tempfile.mkdtemp(prefix="asynccode-up-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def start(data: Path, *arguments: str, checkout: Path = settings.BASE_DIR, **environment: str) -> subprocess.Popen[str]:
    """`manage.py up`; its standard error goes to the file `log` in its data folder."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
    with (data / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, str(checkout / "manage.py"), "up", *arguments],
            env=inherited | {"ASYNCCODE_DATA": str(data), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


@contextmanager
def up(data: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """As `start`; in the end it is stopped, and nothing may be left of it."""
    with ending(start(data, *arguments, **options)) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
    assert wait_until(lambda: not of(data), 10), f"left behind: {of(data)}"


def of(data: Path) -> list[str]:
    """The commands of all processes that have to do with the data folder."""
    mark = str(data).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if mark in (process / "environ").read_bytes() or mark in (process / "cmdline").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def log(data: Path) -> str:
    return (data / "log").read_text()


def finished(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def ready(data: Path) -> str:
    """The URL, as soon as it is printed."""
    assert wait_until(lambda: "asynccode is running at" in log(data), 60), log(data)
    return re.findall(r"running at (\S+)", log(data))[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def child(process: subprocess.Popen[str], program: str) -> int:
    """The number of a service."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if program in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))


def test_exec_gives_the_commands_code_and_leaves_its_output_alone(data: Path) -> None:
    with up(data, "--exec", "echo '{\"a\": 1}'; echo said >&2; exit 7") as process:
        assert finished(process) == (7, '{"a": 1}\n')
    assert "said\n" in log(data)
    assert "/sign-in/" not in log(data)


def test_exec_gives_the_command_all_it_needs_to_reach_the_services(data: Path) -> None:
    script = (
        "import os, urllib.request, psycopg, redis\n"
        "print(urllib.request.urlopen(os.environ['ASYNCCODE_URL']).status)\n"
        "print(psycopg.connect(os.environ['DATABASE_URL']).execute('SELECT count(*) FROM tasks_user').fetchone()[0])\n"
        "print(redis.Redis.from_url(os.environ['REDIS_URL']).ping(), os.environ['ASYNCCODE_DATA'])\n"
    )
    with up(data, "--exec", f"{sys.executable} - <<'END'\n{script}END") as process:
        assert finished(process) == (0, f"200\n1\nTrue {data}\n")


def test_exec_of_a_command_that_is_killed(data: Path) -> None:
    with up(data, "--exec", "kill -KILL $$") as process:
        assert finished(process) == (128 + signal.SIGKILL, "")


def test_a_signal_is_passed_on_to_the_command(data: Path) -> None:
    with up(data, "--exec", f"trap 'echo got it; exit 5' TERM; touch {data}/started; while :; do sleep 0.1; done") as process:
        assert wait_until((data / "started").exists, 60)
        process.terminate()

        assert finished(process) == (5, "got it\n")


def test_sigterm_stops_everything_but_the_sandboxes(data: Path) -> None:
    with up(data, "--port", str(port := free_port())) as process:
        url = ready(data)
        assert url == f"http://localhost:{port}"
        assert status(url) == 200

        process.terminate()

        assert finished(process) == (0, "")
    assert "stopping the sandboxes" not in log(data)


def test_ctrl_c_stops_the_sandboxes_too(data: Path) -> None:
    with up(data, "--port", str(free_port())) as process:
        ready(data)

        process.send_signal(signal.SIGINT)

        assert finished(process) == (0, "")
    assert "stopping the sandboxes" in log(data)


def test_one_link_signs_the_first_operator_in_once(data: Path) -> None:
    with up(data, "--port", str(free_port())):
        url = ready(data)
        (link,) = re.findall(rf"{url}/\S+", log(data).replace(f"{url}\n", ""))

        assert status(link) == 200


def test_a_second_start_makes_no_database_anew(data: Path) -> None:
    with up(data, "--exec", "true") as process:
        assert finished(process)[0] == 0
    port, made_at = free_port(), (data / "postgres" / "PG_VERSION").stat().st_mtime

    with up(data, "--port", str(port)):

        def answers() -> bool:
            try:
                return status(f"http://localhost:{port}") == 200
            except OSError:
                return False

        assert wait_until(answers, 60)
        assert (data / "postgres" / "PG_VERSION").stat().st_mtime == made_at


def test_a_taken_port_is_named_with_its_holder(data: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with up(data, "--port", str(port)) as process:
            assert finished(process) == (1, "")

    assert re.search(rf"Port {port} is taken \(by \S+, process {os.getpid()}\)\. Choose another: make run ARGS=\"--port N\"\.", log(data))
    assert "Traceback" not in log(data)


def test_a_second_up_on_the_same_data_is_refused(data: Path) -> None:
    with up(data, "--port", str(free_port())) as first:
        ready(data)

        second = start(data, "--port", str(free_port()))
        assert finished(second) == (1, "")
        assert f"already running on {data} (process {first.pid})" in log(data)


def test_a_database_that_does_not_answer_is_said_in_a_sentence(data: Path) -> None:
    with up(data, "--exec", "true", DATABASE_URL="postgres://nobody@127.0.0.1:1/none") as process:
        assert finished(process) == (1, "")

    assert "PostgreSQL (DATABASE_URL) cannot be used" in log(data)
    assert "Traceback" not in log(data)


def test_a_service_that_is_killed_comes_back(data: Path) -> None:
    with up(data, "--port", str(free_port())) as process:
        url = ready(data)
        os.kill(child(process, "daphne"), signal.SIGKILL)

        assert status(url) == 200  # the request waited for the new one
        assert "web       | was killed by SIGKILL; starting it again in 1 s" in log(data)


def test_a_database_that_is_killed_comes_back(data: Path) -> None:
    with up(data, "--port", str(free_port())):
        url = ready(data)
        os.kill(int((data / "postgres/postmaster.pid").read_text().split()[0]), signal.SIGKILL)

        assert wait_until(lambda: "postgres  | had ended and was started again" in log(data), 15)
        assert wait_until(lambda: status(url) == 200, 15)


def test_when_it_is_killed_everything_ends_and_it_can_be_started_again(data: Path) -> None:
    with up(data, "--port", str(free_port())) as process:
        ready(data)
        worker = child(process, "work")
        process.kill()

        assert wait_until(lambda: not pids_of_session(worker), 15)

    with up(data, "--exec", "exit 3") as process:
        assert finished(process) == (3, "")


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="for an ordinary user a closed folder is nothing special")
def test_root_can_start_it_from_a_checkout_in_a_closed_folder(data: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    checkout = tmp_path / "checkout"
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in filter(None, listing.split("\0")):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(settings.BASE_DIR / name, checkout / name)
    checkout.chmod(0o700)
    before = {path.relative_to(checkout) for path in checkout.rglob("*")}

    with up(data, "--exec", "exit 3", checkout=checkout) as process:
        assert finished(process) == (3, ""), log(data)

    written = {path.relative_to(checkout).parts[0] for path in checkout.rglob("*") if path.relative_to(checkout) not in before}
    assert written == set()
