"""The contract every sandbox backend keeps; one contract test suite runs against all of them.

Paths given to `put`, `get` and steps are paths inside the sandbox. Nothing here knows tasks or agents.
"""

from __future__ import annotations

import builtins
import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WORKSPACE = "/workspace"
HOME = "/home/agent"
MIRROR = "/run/mirror.git"
ARTIFACTS = "artifacts"  # a folder of the workspace that is no part of a patch, unless the base commit has files in it


class NetworkMode(enum.StrEnum):
    NONE = "none"
    REGISTRIES = "registries"
    PUBLIC = "public"


@dataclass(frozen=True)
class NetworkPolicy:
    """What a sandbox may reach: a preset, plus host names allowed besides (`example.org`, `*.example.org`)."""

    mode: NetworkMode = NetworkMode.REGISTRIES
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What one sandbox may use. Sizes are MiB; cpu_weight is the cgroup v2 scale (1 to 10000, 100 is the normal share)."""

    memory_mb: int = 4096
    cpu_weight: int = 100
    processes: int = 1024
    open_files: int = 8192
    disk_mb: int = 20480
    file_mb: int = 4096
    tmp_mb: int = 2048
    shm_mb: int = 256


@dataclass(frozen=True)
class HeaderRule:
    """Headers that the backend's own way out adds to each request to `host`, so that a key need not be inside."""

    host: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class SandboxSpec:
    """What a new sandbox is made of. `mirror` (a bare repository of ours) appears at MIRROR, read-only where it is not a copy.

    `template` is what the system inside comes from: the name of an E2B template, or locally a folder with a root file
    system; "" is the backend's own. `prepared` is a reference that `Sandbox.keep` gave: what lay in that sandbox's workspace
    and home is there from the beginning, but for files under version control. `agents` and `limits` hold where the sandbox
    is ours, `headers` where the backend can add some.
    """

    mirror: Path | None = None
    agents: Path | None = None
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    limits: Limits = field(default_factory=Limits)
    template: str = ""
    prepared: str = ""
    headers: Sequence[HeaderRule] = ()


@dataclass(frozen=True)
class Step:
    """One command of a turn, run by the supervisor in a process group of its own.

    Clocks are seconds: `total_s` for the whole step, `silence_s` without any output (None: no such clock).
    `files` (path → text) are written just before the step starts. `env` is added to the sandbox's plain
    environment. `stdin` keeps standard input open for MESSAGE commands, after the lines of `input` were written to it;
    without it there is none. Everything the step leaves running is killed when it ends.

    A line of standard output that is a JSON object with all members of one of `ends_on` says that the work is done: standard
    input is closed, and if the step has not left `linger_s` after its last output it is ended as `finished`. A line with those
    of one of `goes_on` takes that back. With `acp` the step is a client of the Agent Client Protocol, and argv its agent:
    see `sandboxes.inside.acp`.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    cwd: str = WORKSPACE
    total_s: float = 3600.0
    silence_s: float | None = None
    stdin: bool = False
    input: Sequence[str] = ()
    ends_on: Sequence[Mapping[str, Any]] = ()
    goes_on: Sequence[Mapping[str, Any]] = ()
    linger_s: float = 15.0
    acp: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Checkout:
    """How the workspace comes to be when it does not exist yet: `base` (a full commit id) from MIRROR's objects,
    on a new branch, `origin` pointing at the true remote; then `patch` (a file put before, or None) on top."""

    base: str
    branch: str
    remote: str
    patch: str | None = None
    total_s: float = 900.0


@dataclass(frozen=True)
class TurnSpec:
    """A turn as the supervisor runs it: the checkout if the workspace is missing, each step while the one before
    ended with 0, then the final patch against `checkout.base`."""

    turn: int
    generation: int
    checkout: Checkout
    steps: Sequence[Step]
    max_file_bytes: int = 10 * 1024 * 1024
    max_patch_bytes: int = 200 * 1024 * 1024
    checkpoint_s: float = 30.0
    term_grace_s: float = 2.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class CommandName(enum.StrEnum):
    STOP = "stop"  # end the running turn: TERM, then KILL of the step's group; the final patch is still made
    INTERRUPT = "interrupt"  # SIGINT to the running step's group
    MESSAGE = "message"  # one line to the running step's standard input
    CHECKPOINT = "checkpoint"  # make a checkpoint now
    SHUTDOWN = "shutdown"  # end the turn as `shutdown` with a checkpoint, kill everything, leave


@dataclass(frozen=True)
class Command:
    name: CommandName
    text: str = ""


@dataclass(frozen=True)
class Completed:
    code: int
    stdout: bytes
    stderr: bytes
    is_timed_out: bool = False


@dataclass(frozen=True)
class FetchedPatch:
    """A patch as bytes, and what the supervisor said of it: `left_out` is a list of {path, bytes, reason}."""

    content: bytes
    sha256: str
    left_out: list[dict[str, Any]]


class EntryKind(enum.StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"  # a pipe, a socket, a device, or gone meanwhile


@dataclass(frozen=True)
class Entry:
    """What is in a folder of the workspace. `size` is bytes of a file, `target` where a link points. Bytes of names that are no
    UTF-8 are surrogates. All of it is the sandbox's claim."""

    name: str
    kind: EntryKind
    size: int = 0
    target: str = ""


@dataclass(frozen=True)
class Collected:
    """Files that a run left in a folder, by their path from there, and `left_out` as in FetchedPatch."""

    files: list[tuple[str, bytes]]
    left_out: list[dict[str, Any]]


@dataclass(frozen=True)
class SandboxInfo:
    """One live or stored sandbox, as `Backend.list` sees it."""

    key: str
    ref: str
    is_alive: bool


class Sandbox(ABC):
    """A sandbox that exists. Every method raises SandboxGone when it does not any more."""

    ref: str

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What is true of this sandbox and worth showing: which limits hold and by what means, its start."""

    @abstractmethod
    async def put(self, path: str, data: bytes) -> None: ...

    @abstractmethod
    async def get(self, path: str) -> bytes:
        """The file's bytes; FileMissing when there is none."""

    @abstractmethod
    async def run(self, argv: Sequence[str], *, timeout: float) -> Completed:  # noqa: ASYNC109 - it ends the command, not us
        """A short, bounded command; not a turn, not journaled. Output over 16 MiB each is cut."""

    @abstractmethod
    async def turn(self, spec: TurnSpec) -> bool:
        """Hand a turn to the supervisor. A second time (same number and generation) is a no-op and gives False."""

    @abstractmethod
    async def tell(self, command: Command) -> None: ...

    @abstractmethod
    async def patch(self, turn: int, kind: str) -> FetchedPatch:
        """The newest `checkpoint` or the `final` patch of a turn; FileMissing when there is none."""

    @abstractmethod
    async def look(self, path: str, *, first: int, most: int) -> tuple[list[Entry], int]:
        """At most `most` entries of a folder of the workspace ("" is the workspace itself), from number `first` (0 is the first)
        on, folders first; and how many there are. `look`, `read` and `collect` follow no link, wake nothing up (SandboxGone
        when it sleeps), and take paths relative to the workspace. FileMissing when there is none."""

    @abstractmethod
    async def read(self, path: str, *, most: int, offset: int = 0) -> tuple[bytes, int]:
        """At most `most` bytes of a regular file of the workspace, and its whole size. FileMissing when there is none."""

    @abstractmethod
    async def collect(self, path: str, *, known: Mapping[str, str], most_files: int, most_file_bytes: int, most_bytes: int) -> Collected:
        """The regular files below a folder of the workspace, but for those whose SHA-256 is `known` (path → hex); what is over
        a bound is named, with the reason size, total, count or unreadable. Nothing when there is no such folder."""

    @abstractmethod
    def journal(self, offset: int) -> AsyncIterator[bytes]:
        """The journal's bytes from `offset`, as they are written; ends only when the sandbox is gone and all was read.
        Chunks may end anywhere, also in the middle of a line or a character."""

    @abstractmethod
    async def alive(self) -> bool: ...

    @abstractmethod
    async def pause(self) -> None:
        """Stop everything inside; files and journal stay. Twice is fine."""

    @abstractmethod
    async def resume(self, spec: SandboxSpec | None = None) -> None:
        """Undo `pause`; on a running sandbox a no-op. What `spec` says of network and headers holds from now on, where a
        backend keeps them itself. Raises SandboxLimited and HeadersRefused as `Backend.create` does."""

    @abstractmethod
    async def keep(self) -> str:
        """Make a prepared environment of what lies in workspace and home, without the files that are under version control;
        gives its reference for `SandboxSpec.prepared`. No turn may be running (SandboxError), and afterwards the sandbox may
        only be destroyed; what is kept stays."""

    @abstractmethod
    async def destroy(self) -> None:
        """Kill and delete. Twice is fine."""


class Backend(ABC):
    """A place where sandboxes are made."""

    name: str

    @abstractmethod
    async def create(self, key: str, spec: SandboxSpec) -> Sandbox:
        """A running sandbox for `key` ("installation:run:generation"). A second create with the same key gives a
        sandbox of its own or the same one, never half of one; the key stays findable through `list`.

        Raises SandboxLimited when there may be no more of them just now, AccountRefused when the backend does not take our
        account, HeadersRefused when it may be for `spec.headers` that it refuses, PreparedGone when `spec.prepared` is not
        there any more."""

    @abstractmethod
    async def connect(self, ref: str) -> Sandbox:
        """The sandbox behind a reference, running or paused; SandboxGone when there is none."""

    @abstractmethod
    async def list(self) -> list[SandboxInfo]: ...

    @abstractmethod
    async def discard(self, prepared: str) -> None:
        """Delete a prepared environment. Twice is fine."""

    @abstractmethod
    async def kept(self, *, for_s: float) -> builtins.list[str]:
        """References of our prepared environments that were kept at least so many seconds ago."""
