"""What this machine has to have: Python, git, sandboxes, agents, room, and a data folder that is nobody else's."""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.fernet import Fernet
from django.conf import settings

from agents import install
from agents.packages import PACKAGES
from sandboxes.errors import SandboxUnavailable
from sandboxes.local import accounts, selftest
from tasks.errors import AppError
from tasks.git import commands
from tasks.running import backends, condition
from tasks.running.condition import Finding

PYTHON = (3, 11)
LEAST_GIT, GIT = (2, 31), (2, 39)  # that works at all, and that can do all
SHORT = 32  # characters of a key


def python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info < PYTHON:
        yield Finding.problem(
            "python", f"Python {version} is too old: asynccode needs 3.11 or newer. Make .venv with one: make PYTHON=… setup"
        )
    else:
        yield Finding.ok("python", f"Python {version}.")


def git() -> Iterator[Finding]:
    try:
        version = commands.version()
    except (OSError, AppError):
        yield Finding.problem("git", "git was not found, or does not tell its version. On Debian or Ubuntu: apt install git")
        return
    told = ".".join(map(str, version))
    if version < LEAST_GIT:
        yield Finding.problem("git", f"git {told} is too old. Install 2.39 or newer.")
    elif version < GIT:
        yield Finding.warning("git", f"git {told} cannot tell whether patches still fit, nor rebase. Install 2.39 or newer.")
    else:
        yield Finding.ok("git", f"git {told}.")


def sandbox() -> Iterator[Finding]:
    """Really makes one, as the start of `manage.py up` does, and refuses with the same words."""
    is_used = settings.SANDBOX_BACKEND == "local" or settings.SANDBOX_FALLBACK == "local"
    try:
        account = accounts.ensure(accounts.SANDBOX_ACCOUNT) if os.geteuid() == 0 else None
        report = selftest.check(root=settings.DATA / "sandboxes", runtime=settings.DATA / "runtime", account=account)
    except (SandboxUnavailable, OSError) as error:
        sentence = str(error)
        yield (
            Finding.problem("sandbox", sentence)
            if is_used
            else Finding.ok("sandbox", f"None is made on this machine, nor could be. {sentence}")
        )
        return
    limits = ", ".join(f"{name} by {means}" for name, means in report.limits.items())
    yield Finding.ok(
        "sandbox", f"bubblewrap {report.bubblewrap} made one in {report.seconds * 1000:.0f} ms, with {report.git}; limits: {limits}."
    )


def agents() -> Iterator[Finding]:
    """Whether they work is asked by `manage.py agents list`, which starts each in a sandbox."""
    folder = backends.agents_folder()
    here = [f"{package.name} {package.version}" for package in PACKAGES.values() if install.is_installed(package, folder)]
    missing = [package.name for package in PACKAGES.values() if not install.is_installed(package, folder)]
    old = [f"{path.parent.name} {path.name}" for path in install.unpinned(folder)]
    sentence = f"Installed at their pins: {', '.join(here) or 'none'}."
    sentence += f" Installed when first used: {', '.join(missing)}." if missing else ""
    yield Finding.ok("agents", sentence)
    if old:
        yield Finding.warning("agents", f"No pin names these any more: {', '.join(old)}. Remove them: manage.py agents install")


def disk() -> Iterator[Finding]:
    yield condition.disk()


def files() -> Iterator[Finding]:
    """Who may read and write what is ours."""
    found = list(_wrong_files())
    yield from found or [Finding.ok("files", f"The data folder {settings.DATA} and its keys are ours alone.")]


def _wrong_files() -> Iterator[Finding]:
    data = settings.DATA
    if not data.is_dir():
        return
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        yield Finding.problem(
            "files", f"{data} cannot be written to. Start asynccode as the user that it belongs to, or set ASYNCCODE_DATA."
        )
    if data.stat().st_mode & stat.S_IWOTH:
        yield Finding.problem("files", f"Everybody may write to {data}. Run: chmod o-w {data}")
    for path in (data / "keys", *sorted((data / "keys").glob("*"))):
        if path.exists() and path.stat().st_mode & 0o077:
            mode = "700" if path.is_dir() else "600"
            yield Finding.problem("files", f"Others may read {path}. Run: chmod {mode} {path}")
    dotenv = Path(settings.BASE_DIR, ".env")
    if dotenv.exists() and dotenv.stat().st_mode & 0o007:
        yield Finding.warning("files", f"Everybody may read {dotenv}, where keys are. Run: chmod 600 {dotenv}")


def own_keys() -> Iterator[Finding]:
    """The keys themselves; what is encrypted with them: services.secrets."""
    found = list(_wrong_keys())
    yield from found or [Finding.ok("keys", "SECRET_KEY and ENCRYPTION_KEYS are there.")]


def _wrong_keys() -> Iterator[Finding]:
    if len(settings.SECRET_KEY) < SHORT:
        yield Finding.warning(
            "keys", f"SECRET_KEY has fewer than {SHORT} characters and could be guessed. Set a longer one; everybody signs in anew."
        )
    for number, key in enumerate(settings.ENCRYPTION_KEYS, 1):
        try:
            Fernet(key)
        except ValueError:
            sentence = f"Number {number} of ENCRYPTION_KEYS is no key. `manage.py rotate-keys --prepare` prints a setting with a new one."
            yield Finding.problem("keys", sentence)
    if settings.KEPT_KEYS and not settings.IS_DATABASE_EMBEDDED:
        names = " and ".join(settings.KEPT_KEYS)
        sentence = (
            f"{names} {'are' if len(settings.KEPT_KEYS) > 1 else 'is'} not set, and kept in {settings.DATA / 'keys'} of this host only."
        )
        yield Finding.warning("keys", f"{sentence} Set the same for all hosts, and keep a copy with the backups of the database.")
