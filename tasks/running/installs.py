"""The agents' programs on this host: which runs need one that is not there, and what became of those that wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet

from agents import install
from agents.install import InstallFailed
from agents.packages import INSIDE, PACKAGES, Package
from agents.registry import ADAPTERS
from sandboxes.errors import SandboxError
from sandboxes.local import bare, bwrap
from tasks.errors import AppError
from tasks.models import Run, RunStatus, Sandbox, SandboxStatus, Turn
from tasks.running import backends, lifecycle, nudge

WAIT_S = 300  # the end of the installation ends the waiting; this long if nobody could say so
TRY_S = 60.0


class NotInstalled(AppError):
    """An agent's program could not be installed, or does not work."""

    code = "not_installed"


def missing(run: Run) -> Package | None:
    """The package that this run's agent needs and that is not on this host."""
    adapter = ADAPTERS.get(run.agent)
    if run.backend != "local" or adapter is None or not adapter.package:
        return None
    package = PACKAGES[adapter.package]
    return None if install.is_installed(package, backends.agents_folder()) else package


def subject(package: Package) -> str:
    """Of the operation that installs it on this host."""
    return f"{package.name}@{settings.HOST_NAME}"


def perform(subject: str, progress: install.Progress) -> None:
    """The operation: install, then let go on who waits for it. Raises NotInstalled."""
    package = PACKAGES.get(subject.partition("@")[0])
    if package is None:  # of another version of asynccode
        return
    put(package, progress)
    release(package)


def put(package: Package, progress: install.Progress) -> None:
    """Install a package on this host. Raises NotInstalled."""
    try:
        install.put(package, backends.agents_folder(), progress, _try_out)
    except InstallFailed as error:
        raise NotInstalled(f"{label(package)} could not be installed. {error}") from error


def check(package: Package) -> None:
    """Start what is installed. Raises NotInstalled when it does not say its version."""
    try:
        install.check(package, backends.agents_folder(), _try_out)
    except InstallFailed as error:
        raise NotInstalled(str(error)) from error


def _try_out(program: Path, arguments: Sequence[str]) -> tuple[int, str]:
    """An agent's program never runs outside a sandbox, not even to say its version."""
    root = Path(settings.DATA, "sandboxes")
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        done = bare.run(
            [str(Path(INSIDE, program)), *arguments],
            program=bwrap.install(Path(settings.DATA, "runtime")),
            root=root,
            account=backends.sandbox_account(),
            agents=backends.agents_folder(),
            timeout=TRY_S,
        )
    except SandboxError as error:
        raise InstallFailed(str(error)) from error
    return done.returncode, done.stdout + done.stderr


def release(package: Package) -> None:
    if _waiting(package).update(not_before=None):
        nudge.dispatch()


def failed(subject: str, error: str) -> None:
    """End the runs that wait for an installation that has failed."""
    package = PACKAGES.get(subject.partition("@")[0])
    for run_id in _waiting(package).values_list("pk", flat=True) if package else ():
        lifecycle.finish(run_id, source=[RunStatus.QUEUED], to=RunStatus.ERRORED, error=error)


def _waiting(package: Package) -> QuerySet[Run]:
    """Those in the queue that may not start yet, except who waits to try again after an error of a model."""
    retries = Turn.objects.filter(run=OuterRef("pk"), status=RunStatus.QUEUED, retries__gt=0)
    names = [adapter.name for adapter in ADAPTERS.values() if adapter.package == package.name]
    return Run.objects.filter(~Exists(retries), status=RunStatus.QUEUED, agent__in=names, backend="local", not_before__isnull=False)


def label(package: Package) -> str:
    return next((adapter.label for adapter in ADAPTERS.values() if adapter.package == package.name), package.name)


def reasons(agents: Iterable[str]) -> dict[str, str]:
    """Agent → what to say of a run of it that waits, for those of `agents` whose program is being installed; one query."""
    packages = {name: PACKAGES[adapter.package] for name in agents if (adapter := ADAPTERS.get(name)) and adapter.package}
    if not packages:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT split_part(subject, '@', 1), max(percent) FROM tasks_operation"
            " WHERE kind = 'install' AND status IN ('queued', 'running') GROUP BY 1"
        )
        percents = dict(cursor.fetchall())
    return {
        name: f"Waits for {label(package)} to be installed ({percents[package.name]} %)."
        for name, package in packages.items()
        if package.name in percents
    }


def remove_old() -> list[Path]:
    """Remove the versions that no pin names any more, except those of agents that sandboxes of this host may still run; those
    that were removed."""
    alive = Sandbox.objects.filter(host=settings.HOST_NAME).exclude(status=SandboxStatus.DESTROYED)
    agents = set(alive.values_list("run__agent", flat=True).distinct())
    kept = {adapter.package for adapter in ADAPTERS.values() if adapter.name in agents}
    removed = []
    for path in install.unpinned(backends.agents_folder()):
        if path.parent.name not in kept:
            install.remove(path)
            removed.append(path)
    return removed
