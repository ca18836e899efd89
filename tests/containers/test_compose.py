"""Dockerfile and the compose files: what is promised of them in docs/deploy.md, read from the files. test_image.py runs them."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands

from asynccode import host
from sandboxes.local import seccomp
from tests.containers.composed import BASE, LOCAL, OURS, PROFILE, ROOT, SERVERS, TEST, services

GIVEN = {"POSTGRES_PASSWORD": "p4ss", "ASYNCCODE_HOST": "here", "WORKERS": "3"}
SETS = [(BASE,), (BASE, LOCAL), (BASE, TEST), (BASE, LOCAL, TEST)]
SECRET = re.compile(r"PASSWORD|SECRET|KEY|TOKEN|DSN")


def words(command: list[str]) -> str:
    """A command without what is each host's own."""
    return re.sub(r"\b(host|operations)-\S+|(?<=--workers )\d+", r"\1", " ".join(command))


def dockerfile() -> str:
    return re.sub(r"\\\n\s*", "", "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")))


@pytest.mark.parametrize("files", SETS)
def test_every_container_is_as_closed_as_it_can_be(files: tuple[str, ...]) -> None:
    for name, service in services(*files, environment=GIVEN).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"][0] == "no-new-privileges:true", name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert any(mount.startswith("/tmp") for mount in service["tmpfs"]), name
        assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & service.keys(), name
        assert all(re.match(r"(data|postgres):/", mount) for mount in service.get("volumes", [])), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert len(service["security_opt"]) == 1 or (LOCAL in files and name == "web"), name


def test_every_service_is_watched_restarted_and_bounded_and_waits_for_what_it_needs() -> None:
    found = services(BASE, environment=GIVEN)
    assert set(found) == {*OURS, *SERVERS}
    for name, service in found.items():
        if name == "migrate":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert "mem_limit" in service
    for name in OURS:
        waits = found[name]["depends_on"]
        assert {waits[server]["condition"] for server in SERVERS} == {"service_healthy"}
        assert name == "migrate" or waits["migrate"]["condition"] == "service_completed_successfully"


def test_the_servers_have_a_network_of_their_own_without_a_way_out() -> None:
    """Whoever may write to Redis has jobs done by the workers."""
    networks = yaml.safe_load((ROOT / BASE).read_text())["networks"]
    assert networks["servers"] == {"internal": True}
    for name, service in services(BASE, environment=GIVEN).items():
        assert service["networks"] == (["servers"] if name in SERVERS else ["default", "servers"])
        assert name not in SERVERS or "ports" not in service
    (config,) = networks["default"]["ipam"]["config"]
    assert services(BASE, environment=GIVEN)["web"]["environment"]["TRUSTED_PROXIES"] == config["gateway"]


def test_they_do_what_up_starts() -> None:
    """The same programs with the same words; only the pages listen where the port can be published."""
    with socket.socket() as listener:
        started = {service.name: list(service.argv[1:]) for service in host.services(listener)}
    found = services(BASE, environment=GIVEN | {"ASYNCCODE_HOST": socket.gethostname()})
    assert found["web"]["command"] == ["web", "--host", "0.0.0.0"]
    names = {"worker": "worker", "operations": "operations", "cron": "cron", "follow": "follower", "gateway": "gateway"}
    assert {*names, "web"} == started.keys()
    for name, ours in names.items():
        assert found[ours]["command"][0] in get_commands()
        assert words(found[ours]["command"]) == words(started[name][1:])
        assert found[ours]["healthcheck"]["test"][1:] == ["python", "manage.py", "alive", "reconcile" if name == "cron" else name]


@pytest.mark.parametrize("files", SETS)
def test_variables_are_known_and_no_secret_stands_in_a_file(files: tuple[str, ...]) -> None:
    known = set(re.findall(r"^#([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)) | {"ASYNCCODE_URL"}
    for name, service in services(*files, environment=GIVEN).items():
        if name not in SERVERS:
            assert service["environment"].keys() <= known, name
            assert service["env_file"] == ".env"
    for file in files:
        for service in yaml.safe_load((ROOT / file).read_text())["services"].values():
            for variable, value in service.get("environment", {}).items():
                assert not SECRET.search(variable) or str(value).startswith("${"), (file, variable)
    with pytest.raises(AssertionError, match=r"Put POSTGRES_PASSWORD into \.env"):
        services(BASE, environment={})


def test_with_local_sandboxes_one_container_is_opened_and_is_all_of_asynccode() -> None:
    found = services(BASE, LOCAL, environment=GIVEN)
    assert set(found) == {"migrate", "web", *SERVERS}
    assert found["web"]["command"][0] == "up"
    assert found["web"]["environment"]["LOCAL_SANDBOXES"] == "1"
    assert set(found["web"]["security_opt"][1:]) == {f"seccomp={PROFILE}", "apparmor=unconfined", "systempaths=unconfined"}
    assert found["web"]["stop_signal"] == "SIGINT"
    # What a sandbox does without, its container does without too, but for what bubblewrap needs.
    (rule,) = json.loads((ROOT / PROFILE).read_text())["syscalls"]
    needed = {"mount", "umount2", "pivot_root", "chroot", "sethostname", "clone3"}
    assert seccomp.DENIED.keys() | seccomp.MISSING.keys() <= needed | set(rule["names"])
    assert not needed & set(rule["names"])


def test_the_image_is_pinned_verified_and_not_roots() -> None:
    said = dockerfile()
    assert re.search(r"^ARG BASE_IMAGE=debian:[a-z]+-slim$", said, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", said, re.MULTILINE) == ["${BASE_IMAGE}"] * 2
    assert {"--require-hashes", "--only-binary=:all:"} <= set(said.split())
    assert re.findall(r"^USER (.+)", said, re.MULTILINE) == ["1000:1000"]
    assert not re.search(r"^ADD ", said, re.MULTILINE)
    assert not [line for line in re.findall(r"^(?:ARG|ENV) .*", said, re.MULTILINE) if SECRET.search(line)]
    check = re.search(r'HEALTHCHECK .*?CMD \["python", "-c", "(.*)"\]$', said, re.MULTILINE)
    assert check
    compile(check[1].replace('\\"', '"'), "HEALTHCHECK", "exec")
    assert "/healthz" in check[1]


def test_nothing_comes_into_the_image_that_is_not_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert {"agents", "asynccode", "sandboxes", "tasks", "static", "templates", "manage.py", "requirements.txt"} <= let_in
    assert not {".env", ".git", "tests", ".venv", "bench"} & {Path(name).parts[0] for name in let_in}
