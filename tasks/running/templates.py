"""What sandboxes are made from: our own template of E2B, which is built once for each set of pins, and what is taken without it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from django.conf import settings

from agents import recipe
from agents.packages import NODE_VERSION, PACKAGES
from agents.registry import ADAPTERS
from sandboxes.e2b import template
from sandboxes.e2b.account import Account
from sandboxes.errors import SandboxError
from tasks.errors import AppError, InvalidInput
from tasks.models import Operation, OperationStatus, Run

KIND = "e2b_template"
BUILD = "manage.py e2b build-template"
BASE = "base"
# E2B's own templates for agents, by the agent's name; each has some version of its program and none of our pins.
PUBLIC = {"claude": "claude", "codex": "codex", "copilot": "copilot", "gemini": "gemini", "opencode": "opencode"}

MOST_CPU = 32
LEAST_MB, MOST_MB = 512, 65536

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SUBJECT = re.compile(r"(\S+) ([0-9a-f]{10}) (\d{1,3})x(\d{1,6})( anew)?")

Progress = Callable[[int, str, str], None]  # percent, what is going on, and what is to be added to the log


class NotBuilt(AppError):
    """The template could not be built."""

    code = "template_not_built"


@dataclass(frozen=True)
class Wanted:
    """A template to be built, as an operation's subject says it. `contents` says which pins it has."""

    name: str
    contents: str
    cpu: int
    memory_mb: int
    is_anew: bool = False

    @property
    def subject(self) -> str:
        return f"{self.name} {self.contents} {self.cpu}x{self.memory_mb}{' anew' if self.is_anew else ''}"

    @classmethod
    def of(cls, subject: str) -> Wanted | None:
        """None: a subject of another version of asynccode."""
        found = _SUBJECT.fullmatch(subject)
        return cls(found[1], found[2], int(found[3]), int(found[4]), bool(found[5])) if found else None


def ours() -> template.Recipe:
    """Today's: all agents at their pins."""
    programs = [template.Program(f"{package.name} {package.version}", recipe.commands(package)) for package in PACKAGES.values()]
    return template.Recipe(f"{NODE_VERSION}-bookworm", programs)


def wanted(*, cpu: int = template.CPU, memory_mb: int = template.MEMORY_MB, name: str = "", anew: bool = False) -> Wanted:
    """Today's template for a machine of this size. InvalidInput for a size or a name that E2B has not."""
    if not 1 <= cpu <= MOST_CPU:
        raise InvalidInput(f"A sandbox has from 1 to {MOST_CPU} processors.", field="cpu")
    if not LEAST_MB <= memory_mb <= MOST_MB or memory_mb % 2:
        raise InvalidInput(f"A sandbox has from {LEAST_MB} to {MOST_MB} MB of memory, an even number.", field="memory_mb")
    if name and not _NAME.fullmatch(name):
        raise InvalidInput("A template's name has small letters, digits, dashes and underscores, 63 at most.", field="name")
    sized = replace(ours(), cpu=cpu, memory_mb=memory_mb)
    return Wanted(name or sized.name, sized.contents, cpu, memory_mb, anew)


def account() -> Account:
    """Ours at E2B. NotBuilt when none is set."""
    if not settings.E2B_API_KEY:
        raise NotBuilt("E2B_API_KEY is not set. Make a key at E2B, set it in .env or the environment, and try again.")
    return Account(settings.E2B_API_KEY, settings.E2B_DOMAIN, settings.E2B_API_URL, settings.E2B_SANDBOX_URL)


def perform(subject: str, progress: Progress) -> None:
    """The operation: build it unless E2B has it. Raises NotBuilt."""
    what = Wanted.of(subject)
    if what is None:
        return
    sized = replace(ours(), cpu=what.cpu, memory_mb=what.memory_mb)
    if sized.contents != what.contents:
        raise NotBuilt("The agents' versions have changed since this was asked for. Build the template anew.")

    def say(percent: int, said: str) -> None:
        said = said.replace("\0", "")
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
        progress(percent, last or f"Building {what.name}", f"{said}\n" if said else "")

    own = "" if what.name == sized.name else what.name
    try:
        template.build(sized, account(), say, name=own, force=what.is_anew)
    except SandboxError as error:
        raise NotBuilt(str(error)) from error


@dataclass(frozen=True)
class Built:
    """A template that was built, by the newest operation that did it."""

    what: Wanted
    operation: Operation
    is_current: bool  # it has today's pins


def built() -> list[Built]:
    """Our templates, the newest first."""
    found: dict[str, Built] = {}
    contents = ours().contents
    for operation in Operation.objects.filter(kind=KIND, status=OperationStatus.SUCCEEDED).defer("log").order_by("-finished_at", "-pk"):
        what = Wanted.of(operation.subject)
        if what is not None and what.name not in found:
            found[what.name] = Built(what, operation, what.contents == contents)
    return list(found.values())


def chosen() -> Built | None:
    """Of ours the newest with today's pins, else the newest."""
    all_built = built()
    return next((one for one in all_built if one.is_current), all_built[0] if all_built else None)


def current(agent: str) -> str:
    """What new E2B sandboxes of an agent are made from, unless their repository says something else."""
    if settings.E2B_TEMPLATE:
        return settings.E2B_TEMPLATE
    ours_built = chosen()
    return ours_built.what.name if ours_built else PUBLIC.get(agent, BASE)


def is_folder(value: str) -> bool:
    """A repository's template is a folder of this machine's, for local sandboxes; else it is the name of one of E2B's."""
    return value.startswith("/")


def for_run(run: Run) -> str:
    """What a new sandbox of this run is made from; "" is its backend's own. A repository's folder counts while its owner may
    set one."""
    repo = run.task.repo
    if run.backend == "local":
        return repo.template if is_folder(repo.template) and repo.owner.is_operator else settings.LOCAL_ROOTFS
    return repo.template if repo.template and not is_folder(repo.template) else current(run.agent)


def by_name(argv: Sequence[str]) -> list[str]:
    """A command with the agents' programs by their names alone. Which version there is is the template's to say: it may be one
    of E2B's or of a user's, or one of ours from before an upgrade. Ours have them all on the PATH."""
    names = {package.path: package.program for package in PACKAGES.values()}
    return [names.get(word, word) for word in argv]


def says_no_program(run: Run, said: str) -> bool:
    """Whether an error of a turn, or a shell's last words, say that an E2B sandbox has not the program of its run's agent."""
    adapter = ADAPTERS.get(run.agent)
    if run.backend != "e2b" or adapter is None or not adapter.package:
        return False
    program = re.escape(PACKAGES[adapter.package].program)
    return bool(re.search(rf"The command '{program}' could not be started: No such file|exec: {program}: not found", said))
