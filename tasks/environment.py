"""The verbs of a repository's environment: its name, scripts, network and variables, and its removal."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from sandboxes.egress import HostError, parse_entry
from tasks import dotenv
from tasks.errors import Conflict, InvalidInput, NotAllowed, RepoUnavailable
from tasks.git import mirrors
from tasks.models import (
    FINAL,
    FromGitHub,
    NetworkPreset,
    Operation,
    Phase,
    PreparedEnvironment,
    Repo,
    RepoMcpServer,
    Run,
    Sandbox,
    SandboxStatus,
    Task,
    User,
    Variable,
)
from tasks.running import prepared, unlisted
from tasks.running.templates import is_folder

logger = logging.getLogger(__name__)

MOST_NAME = 200  # characters
MOST_SCRIPT = 100_000  # characters
MOST_TEMPLATE = 200  # characters
MOST_VALUE = 32_000  # characters; the kernel takes 128 KiB for one variable, in bytes
MOST_VARIABLES = 200
MOST_HOSTS = 200
MOST_ERRORS = 10  # of lines, said at once

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEMPLATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}")
# What the sandbox itself sets, and needs as it is.
_OURS = frozenset({"HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "SHLVL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})


def update_environment(
    *,
    repo: Repo,
    by: User,
    setup_script: str,
    check_command: str,
    network_preset: str,
    network_hosts: Sequence[str],
    name: str | None = None,
    template: str | None = None,
    prepares: bool | None = None,
    from_github: str | None = None,
) -> None:
    """Set how sandboxes of this repository are prepared and what they may reach; running ones stay as they are.

    `name` is what pages call the repository, `template` what its sandboxes start from where the backend has templates ("" for
    the usual one), `prepares` whether what the setup script leaves is kept for later runs, `from_github` what tasks may do that are
    asked for at GitHub; without them it keeps those it has.
    """
    _check_owner(repo, by)
    name = repo.name if name is None else name.strip()
    if not name or len(name) > MOST_NAME or not name.isprintable():
        raise InvalidInput(f"A name has from 1 to {MOST_NAME} characters, on one line.", field="name")
    template = repo.template if template is None else _template(template.strip(), repo, by)
    for field, text in (("setup_script", setup_script), ("check_command", check_command)):
        if len(text) > MOST_SCRIPT:
            raise InvalidInput(f"This has {len(text):,} characters; {MOST_SCRIPT:,} are the most. Keep it in the repository.", field=field)
        if "\0" in text:
            raise InvalidInput("There is a NUL character in this text.", field=field)
    if network_preset not in NetworkPreset.values:
        raise InvalidInput(f"Choose one of: {', '.join(NetworkPreset.values)}.", field="network_preset")
    if from_github not in (None, *FromGitHub.values):
        raise InvalidInput(f"Choose one of: {', '.join(FromGitHub.values)}.", field="from_github")
    hosts = _hosts(network_hosts)
    Repo.objects.filter(pk=repo.pk).update(
        name=name,
        template=template,
        prepares=repo.prepares if prepares is None else prepares,
        setup_script=setup_script.strip(),
        check_command=check_command.strip(),
        network_preset=network_preset,
        network_hosts=hosts,
        from_github=repo.from_github if from_github is None else from_github,
    )


def _template(value: str, repo: Repo, by: User) -> str:
    """A template as it may be set: a name of E2B's, or a folder of this machine's, which is for operators to say. One that is
    there stays."""
    if value in ("", repo.template):
        return value
    if is_folder(value):
        if not by.is_operator:
            raise InvalidInput("Only operators may set a folder of this server. Leave this empty, or ask one.", field="template")
        is_plain = len(value) <= MOST_TEMPLATE and value.isprintable() and ".." not in Path(value).parts
        if not is_plain or not Path(value).is_dir():
            raise InvalidInput(f"{value[:MOST_TEMPLATE]} is no folder of this server. Give its absolute path.", field="template")
        return str(Path(value))
    if not _TEMPLATE.fullmatch(value):
        raise InvalidInput("A template's name has letters, digits and . _ - / : in it, and 200 characters at most.", field="template")
    if not settings.E2B_API_KEY:
        instead = "Give the absolute path of a folder with a root file system" if by.is_operator else "Leave this empty"
        raise InvalidInput(f"Templates with a name are E2B's, which is not set up here. {instead}.", field="template")
    return value


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
    return _set(repo, by, {name.strip(): value}, is_secret, phase)[0]


def set_variables(*, repo: Repo, by: User, text: str, is_secret: bool = False, phase: str = Phase.AGENT) -> list[Variable]:
    """Set all that the text of a .env file names, or nothing: InvalidInput ("lines") has a sentence for each line that is wrong."""
    _check_owner(repo, by)
    if len(text) > MOST_SCRIPT:
        raise InvalidInput(f"This has {len(text):,} characters; {MOST_SCRIPT:,} are the most.", field="lines")
    found, wrong = dotenv.parse(text), []
    for entry in found:
        try:
            _check_variable(entry.name, entry.value, is_secret)
        except InvalidInput as error:
            entry.error = entry.error or error.message
        if entry.error:
            wrong.append(f"Line {entry.line}: {entry.error}")
    if wrong:
        more = [f"{len(wrong) - MOST_ERRORS} more lines are wrong."] if len(wrong) > MOST_ERRORS else []
        raise InvalidInput("\n".join([*wrong[:MOST_ERRORS], *more]), field="lines")
    if not found:
        raise InvalidInput("There is no variable in this. Write one a line: NAME=value", field="lines")
    return _set(repo, by, {entry.name: entry.value for entry in found}, is_secret, phase)


def _set(repo: Repo, by: User, values: Mapping[str, str], is_secret: bool, phase: str) -> list[Variable]:
    _check_owner(repo, by)
    for name, value in values.items():
        _check_variable(name, value, is_secret)
    if phase not in Phase.values:
        raise InvalidInput(f"Choose one of: {', '.join(Phase.values)}.", field="phase")
    with transaction.atomic():
        Repo.objects.hold(repo.pk)
        variables = {variable.name: variable for variable in Variable.objects.filter(repo=repo)}
        if len(variables.keys() | values.keys()) > MOST_VARIABLES:
            raise Conflict(f"A repository has at most {MOST_VARIABLES} variables. Remove some first.")
        changed = [variables.get(name) or Variable(repo=repo, name=name) for name in values]
        for variable in changed:
            variable.value, variable.is_secret = values[variable.name], is_secret
            variable.phase = Phase.SETUP if is_secret else phase
            variable.save()
    return changed


def _check_variable(name: str, value: str, is_secret: bool) -> None:
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise InvalidInput("A name has letters, digits and underscores, and does not begin with a digit: NPM_TOKEN.", field="name")
    if name == "PATH":
        raise InvalidInput("PATH would replace the sandbox's own. Extend it in the script: export PATH=/opt/tool/bin:$PATH", field="name")
    if name.upper() in _OURS or name.startswith("ASYNCCODE_"):
        raise InvalidInput(f"{name} is set by the sandbox itself. Choose another name.", field="name")
    if is_secret and not value:
        raise InvalidInput("A secret needs a value. The one that was there is never shown, so type it anew.", field="value")
    if "\0" in value:
        raise InvalidInput("There is a NUL character in the value; no environment variable can hold one.", field="value")
    if len(value) > MOST_VALUE:
        raise InvalidInput(f"The value has {len(value):,} characters; {MOST_VALUE:,} are the most.", field="value")


def remove_variable(*, repo: Repo, by: User, name: str) -> bool:
    """Remove a variable; False when there was none of that name."""
    _check_owner(repo, by)
    deleted, _ = Variable.objects.filter(repo=repo, name=name).delete()
    return deleted > 0


def rebuild_prepared(*, environment: PreparedEnvironment, by: User) -> Run | None:
    """Delete a prepared environment and build it anew, with the script and the variables as they are now; the run that does so.
    Conflict, RepoUnavailable."""
    repo = environment.repo
    _check_owner(repo, by)
    if not repo.setup_script or not repo.prepares:
        raise Conflict("Nothing is prepared for this repository: it has no setup script, or one that runs in each sandbox.")
    if environment.run is None:
        raise Conflict("Nobody knows any more which branch this was built on. Delete it; the next run that starts has another one built.")
    branch, place = environment.run.task.base_branch, (environment.backend, environment.host)
    with transaction.atomic():
        prepared.forget(environment)
        return prepared.begin(
            repo, by, commit=environment.base_commit, branch=branch, place=place, template=environment.template, anew=True
        )


def delete_prepared(*, environment: PreparedEnvironment, by: User) -> None:
    """Give a prepared environment to no run any more, and delete it when the last sandbox that stands on it is gone. One that is
    being built is stopped."""
    _check_owner(environment.repo, by)
    prepared.forget(environment)


def remove_repo(*, repo: Repo, by: User) -> None:
    """Remove a repository: its variables and servers, our copy of it, and its row, unless the history of tasks needs that. Conflict
    while runs are at work.

    A fetch that is under way ends. Adding the same source again brings a row that was kept back.
    """
    _check_owner(repo, by)
    with transaction.atomic():
        Repo.objects.hold(repo.pk)
        if active := Run.objects.filter(task__repo=repo, prepares=None, checks=None).exclude(status__in=FINAL).count():
            verb = "1 run is" if active == 1 else f"{active} runs are"
            raise Conflict(f"{verb} at work on this repository. Stop them, or wait for their end, before you remove it.")
        Operation.objects.filter(subject=f"repo:{repo.pk}").delete()
        Variable.objects.filter(repo=repo).delete()
        RepoMcpServer.objects.filter(repo=repo).delete()
        unlisted.forget(Task.objects.filter(repo=repo, is_trial=True))
        if Task.objects.filter(repo=repo).exists() or PreparedEnvironment.objects.filter(repo=repo).exclude(ref="").exists():
            Repo.objects.filter(pk=repo.pk).update(removed_at=Now(), mirrored_at=None)
            # They borrow their objects from the mirror. A follow-up after the repository is back starts in a new one.
            Sandbox.objects.filter(run__task__repo=repo).exclude(status=SandboxStatus.DESTROYED).update(status=SandboxStatus.LOST)
        else:
            Repo.objects.filter(pk=repo.pk).delete()
    try:
        mirrors.remove(repo.mirror_path, timeout=5)
    except RepoUnavailable:
        logger.info("The mirror of %s is being fetched; who does that removes it.", repo)


def _check_owner(repo: Repo, by: User) -> None:
    if repo.owner_id != by.pk:
        raise NotAllowed("This repository belongs to somebody else.")
