"""The verbs of a repository's environment: scripts, network, variables, and its removal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from django.db import transaction
from django.db.models import ProtectedError

from sandboxes.egress import HostError, parse_entry
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.git import mirrors
from tasks.models import NetworkPreset, Operation, OperationStatus, Phase, Repo, User, Variable

MOST_SCRIPT = 100_000  # characters
MOST_VALUE = 32_000  # characters; the kernel takes 128 KiB for one variable, in bytes
MOST_VARIABLES = 200
MOST_HOSTS = 200

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What the sandbox itself sets, and needs as it is.
_OURS = frozenset({"HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "SHLVL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})


def update_environment(
    *, repo: Repo, by: User, setup_script: str, check_command: str, network_preset: str, network_hosts: Sequence[str]
) -> None:
    """Set how sandboxes of this repository are prepared and what they may reach; running ones stay as they are."""
    _check_owner(repo, by)
    for field, text in (("setup_script", setup_script), ("check_command", check_command)):
        if len(text) > MOST_SCRIPT:
            raise InvalidInput(f"This has {len(text):,} characters; {MOST_SCRIPT:,} are the most. Keep it in the repository.", field=field)
        if "\0" in text:
            raise InvalidInput("There is a NUL character in this text.", field=field)
    if network_preset not in NetworkPreset.values:
        raise InvalidInput(f"Choose one of: {', '.join(NetworkPreset.values)}.", field="network_preset")
    hosts = _hosts(network_hosts)
    Repo.objects.filter(pk=repo.pk).update(
        setup_script=setup_script.strip(), check_command=check_command.strip(), network_preset=network_preset, network_hosts=hosts
    )


def _hosts(lines: Sequence[str]) -> list[str]:
    """Allowlist entries in the one spelling the gateway compares; empty lines and repetitions are dropped."""
    found: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        if not (text := line.strip()):
            continue
        try:
            name, port = parse_entry(text)
        except HostError as error:
            raise InvalidInput(f"Line {number} ({text[:80]}): {error}", field="network_hosts") from None
        bracketed = f"[{name}]" if ":" in name else name
        found[bracketed if port is None else f"{bracketed}:{port}"] = None
    if len(found) > MOST_HOSTS:
        raise InvalidInput(
            f"These are {len(found)} hosts; {MOST_HOSTS} are the most. A wildcard (*.example.org) may help.", field="network_hosts"
        )
    return list(found)


def set_variable(*, repo: Repo, by: User, name: str, value: str, is_secret: bool = False, phase: str = Phase.AGENT) -> Variable:
    """Set a variable, new or anew. A secret exists in the setup script only, whatever `phase` says."""
    _check_owner(repo, by)
    name = name.strip()
    _check_variable(name, value)
    if phase not in Phase.values:
        raise InvalidInput(f"Choose one of: {', '.join(Phase.values)}.", field="phase")
    with transaction.atomic():
        Repo.objects.select_for_update().get(pk=repo.pk)
        variable = Variable.objects.filter(repo=repo, name=name).first() or Variable(repo=repo, name=name)
        if variable.pk is None and Variable.objects.filter(repo=repo).count() >= MOST_VARIABLES:
            raise Conflict(f"This repository has {MOST_VARIABLES} variables, as many as it may. Remove one first.")
        variable.value, variable.is_secret = value, is_secret
        variable.phase = Phase.SETUP if is_secret else phase
        variable.save()
    return variable


def _check_variable(name: str, value: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise InvalidInput("A name has letters, digits and underscores, and does not begin with a digit: NPM_TOKEN.", field="name")
    if name == "PATH":
        raise InvalidInput("PATH would replace the sandbox's own. Extend it in the script: export PATH=/opt/tool/bin:$PATH", field="name")
    if name.upper() in _OURS or name.startswith("ASYNCCODE_"):
        raise InvalidInput(f"{name} is set by the sandbox itself. Choose another name.", field="name")
    if "\0" in value:
        raise InvalidInput("There is a NUL character in the value; no environment variable can hold one.", field="value")
    if len(value) > MOST_VALUE:
        raise InvalidInput(f"The value has {len(value):,} characters; {MOST_VALUE:,} are the most.", field="value")


def remove_variable(*, repo: Repo, by: User, name: str) -> bool:
    """Remove a variable; False when there was none of that name."""
    _check_owner(repo, by)
    deleted, _ = Variable.objects.filter(repo=repo, name=name).delete()
    return deleted > 0


def remove_repo(*, repo: Repo, by: User) -> None:
    """Remove a repository that no task has used, with its variables and its mirror."""
    _check_owner(repo, by)
    subject = f"repo:{repo.pk}"
    path = repo.mirror_path
    if Operation.objects.filter(subject=subject, status=OperationStatus.RUNNING).exists():
        raise Conflict("The repository is being fetched. Remove it when that is over.")
    try:
        with transaction.atomic():
            Operation.objects.filter(subject=subject).delete()
            repo.delete()
    except ProtectedError:
        raise Conflict("Tasks have been run on this repository, and their history needs it. It cannot be removed.") from None
    mirrors.remove(path)


def _check_owner(repo: Repo, by: User) -> None:
    if repo.owner_id != by.pk:
        raise NotAllowed("This repository belongs to somebody else.")
