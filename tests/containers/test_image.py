"""The image, really built and really run, as compose.yaml says. Some ten minutes; `pytest -m long tests/containers`.

Docker's own engine and its registry are not here: see engine.py for what stands in their place.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers import engine
from tests.containers.composed import BASE, LOCAL, ROOT, TEST, services
from tests.containers.engine import IMAGE, PODMAN, Stack, run, services_to_start
from tests.spine.product import wait_for

LACK = engine.missing()
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800), pytest.mark.skipif(bool(LACK), reason=LACK)]
ENV = {"POSTGRES_PASSWORD": "4f9c2b7d1e", "SECRET_KEY": "s" * 40, "ENCRYPTION_KEYS": "c3BpbmVzcGluZXNwaW5lc3BpbmVzcGluZXNwaW5lMDA="}
MakeStack = Callable[..., Stack]


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="asynccode-image-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(scratch: Path) -> Iterator[str]:
    """Made anew, and removed; a base that was there stays."""
    had_base = engine.has_image(engine.BASE_IMAGE)
    if not had_base:
        engine.make_base(scratch)
    engine.build(scratch)
    yield IMAGE
    for name in (IMAGE, *(() if had_base else (engine.BASE_IMAGE,))):
        run("podman", "rmi", name)


@pytest.fixture
def make_stack(image: str, scratch: Path) -> Iterator[MakeStack]:
    """Servers that run, and nothing else yet."""
    with contextlib.ExitStack() as stack:

        def make(*files: str, **more: str) -> Stack:
            env = ENV | more
            made = Stack(services(*files, environment=env), env, scratch)
            stack.callback(made.close)
            made.start_servers()
            return made

        yield make


@contextlib.contextmanager
def cloud(stack: Stack, scratch: Path, port: int = 9000) -> Iterator[None]:
    """E2B's stand-in, in the network of the stack: nothing else is in reach from there."""
    root = scratch / "cloud"
    argv = ["nsenter", f"--net=/proc/{stack.pid('postgres')}/ns/net", sys.executable, "-m", "tests.e2bcloud.server"]
    argv += ["--root", str(root), "--port", str(port), "--api-key", "e2b_key"]
    with (scratch / "cloud.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        stack.wait_for_port(port)
        yield
    finally:
        process.terminate()
        process.wait(60)


E2B = {"E2B_API_KEY": "e2b_key", "E2B_API_URL": "http://127.0.0.1:9000", "E2B_SANDBOX_URL": "http://127.0.0.1:9000"}


def test_the_image_has_no_secret_no_stranger_and_nothing_that_its_user_may_write(image: str) -> None:
    (about,) = json.loads(run("podman", "image", "inspect", image).stdout)
    config = about["Config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["python", "/opt/asynccode/app/manage.py"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.version"] == "proof"
    assert not [value for value in config["Env"] if "KEY" in value or "PASSWORD" in value]
    look = "find / -xdev \\( -writable -o -perm /6000 \\) -not -type l -not -path '/proc/*' -not -path '/dev/*' -not -path '/sys/*'"
    look += "; ls -a /opt/asynccode/app /opt/asynccode /opt/asynccode/static"
    argv = [*PODMAN, "run", "--rm", "--network", "none", *engine.BOUNDS, "--entrypoint", "/bin/sh", image, "-c", look]
    found = run(*argv)
    writable, names = [line for line in found.stdout.splitlines() if line.startswith("/") and ":" not in line], found.stdout.split()
    programs = {path for path in writable if path.startswith(("/usr", "/bin"))}
    assert all(Path(path).name in SET_UID for path in programs), programs  # Debian's own, of no use with no-new-privileges
    assert set(writable) - programs <= {"/var/lib/asynccode", "/tmp", "/var/tmp", "/run/lock", "/var/local", "/var/mail"}
    assert not {".env", ".git", "tests", ".venv", "keys"} & set(names)
    assert "staticfiles.json" in names


SET_UID = {"mount", "umount", "su", "passwd", "chfn", "chsh", "gpasswd", "newgrp", "expiry", "chage", "unix_chkpwd"}


def test_all_services_work_on_a_read_only_root_without_capabilities_and_a_task_gets_its_patch_from_e2b(
    make_stack: MakeStack, scratch: Path
) -> None:
    stack = make_stack(BASE, TEST, **E2B)
    with cloud(stack, scratch):
        migrated = stack.once("migrate")
        assert migrated.returncode == 0, migrated.stderr
        names = services_to_start(stack.services)
        for name in names:
            stack.start(name)
        for name in names:
            stack.healthy(name)
            status = stack.status(name)
            assert {status[f"Cap{kind}"].strip("0") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {""}, name
            assert (status["Uid"].split(), status["NoNewPrivs"], status["Seccomp"]) == (["1000"] * 4, "1", "2"), name
            assert stack.execute(name, "touch", "/opt/asynccode/app/x").returncode != 0
        smoke = stack.once("smoke")
        assert smoke.returncode == 0, smoke.stdout + smoke.stderr + stack.logs("worker")
        assert "succeeded (e2b), with its patch" in smoke.stdout
        link = stack.once("web", "login-link")
        assert link.stdout.startswith("http://localhost:8000/sign-in/link/"), link.stderr
        assert {name: stack.stop(name) for name in names} == dict.fromkeys(names, 0)


def test_without_e2b_and_as_closed_as_docker_keeps_it_runs_are_refused_in_words(make_stack: MakeStack) -> None:
    stack = make_stack(BASE, TEST)
    migrated = stack.once("migrate")
    assert migrated.returncode == 0, migrated.stderr
    for name in services_to_start(stack.services):
        stack.start(name)
    smoke = stack.once("smoke")
    assert smoke.returncode == 1
    assert "The task was refused" in smoke.stderr
    assert "no sandbox can be made on this machine (LOCAL_SANDBOXES is 0, as in a container), and E2B_API_KEY is not set" in smoke.stderr
    # Whoever asks for local ones all the same is told before anything starts.
    forced = {"LOCAL_SANDBOXES": "1", "SANDBOX_BACKEND": "local"}
    for command in (["up", "--port", "8001"], ["doctor"]):
        refused = stack.once("migrate", *command, **forced)
        said = refused.stdout + refused.stderr
        assert refused.returncode == 1, said
        assert "bwrap: No permissions" in said, said
        assert "Use E2B's (E2B_API_KEY), or open this one for them, as compose.local-sandboxes.yaml does" in said, said


def test_opened_as_compose_local_sandboxes_says_a_task_gets_its_patch_in_the_container(make_stack: MakeStack) -> None:
    stack = make_stack(BASE, LOCAL, TEST)
    migrated = stack.once("migrate")
    assert migrated.returncode == 0, migrated.stderr
    stack.start("web")
    stack.healthy("web")
    assert stack.status("web")["CapBnd"].strip("0") == ""
    assert stack.status("web")["NoNewPrivs"] == "1"
    smoke = stack.once("smoke")
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr + stack.logs("web")
    assert "succeeded (local), with its patch" in smoke.stdout

    # A stop takes the sandboxes along, and what was done in them is kept.
    made = json.loads(stack.manage("web", "create_test_user", "--ttl", "30m", "--json"))
    words = ["--agent", "shell", "--prompt", "echo kept > kept.txt; echo ready; sleep 600", "--json"]
    task = json.loads(stack.manage("web", "submit", "--user", made["username"], "--repo", made["repos"][0]["source"], *words))
    run = str(task["runs"][0]["id"])
    wait_for(lambda: '"ready\\n"' in stack.manage("web", "events", run), "the script", 60, 0.5)
    assert stack.stop("web") == 0
    stack.again("web")
    stack.healthy("web")
    assert "+kept" in stack.manage("web", "patch", run).splitlines()
    assert '"interrupted"' in stack.manage("web", "events", run)
