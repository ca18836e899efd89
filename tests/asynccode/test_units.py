"""The units of docs/deploy/systemd start what `manage.py up` starts, and systemd understands them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from asynccode import host

UNITS = settings.BASE_DIR / "docs/deploy/systemd"
# What `up` calls a service → what the unit does.
NAMES = {"worker": "work-runs", "operations": "work-operations"}


def commands() -> dict[str, list[str]]:
    """Of each unit, the words after the program, with its variables filled in as in 10-common.conf."""
    filled = {"${ASYNCCODE_HOST}": settings.HOST_NAME, "${WORKERS}": str(settings.WORKERS)}
    found = {}
    for unit in UNITS.glob("asynccode-*.service"):
        command = re.search(r"^ExecStart=/opt/asynccode/.venv/bin/python (.+)$", unit.read_text(), re.MULTILINE)
        if command:
            line = command[1]
            for name, value in filled.items():
                line = line.replace(name, value)
            found[unit.stem.removeprefix("asynccode-")] = line.split()
    return found


def test_a_unit_runs_each_service_as_up_does() -> None:
    with socket.socket() as listener:
        wanted = {}
        for service in host.services(listener):
            words = [word.replace(str(settings.BASE_DIR / "manage.py"), "manage.py") for word in service.argv[1:]]
            wanted[NAMES.get(service.name, service.name)] = ["3" if word == str(listener.fileno()) else word for word in words]
    assert commands() == wanted


def test_the_target_wants_every_unit() -> None:
    wanted = re.findall(r"asynccode-[a-z-]+\.(?:service|socket)", (UNITS / "asynccode.target").read_text())
    assert sorted(wanted) == sorted(path.name for path in UNITS.iterdir() if path.is_file() and path.name.startswith("asynccode-"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    units = tmp_path / "units"
    shutil.copytree(UNITS, units)
    for path in units.rglob("*.*"):
        if path.is_file():
            path.write_text(path.read_text().replace("/opt/asynccode", str(settings.BASE_DIR)).replace("=asynccode\n", "=root\n"))
    names = [str(path) for path in units.iterdir() if path.is_file()]
    environment = {"SYSTEMD_UNIT_PATH": f"{units}:", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], env=environment, capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if str(units) in line or "asynccode" in line]
    assert (done.returncode, said) == (0, [])
