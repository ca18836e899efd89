"""Which sandboxes runs get here, and their keys."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from django.conf import settings

from agents.registry import ADAPTERS
from sandboxes.base import Backend, Limits, SandboxSpec
from sandboxes.e2b.account import Account
from sandboxes.e2b.backend import E2BBackend
from sandboxes.local import accounts
from sandboxes.local.backend import LocalBackend
from tasks.models import Run
from tasks.running import templates

NONE = (
    "Runs cannot start: no sandbox can be made on this machine (LOCAL_SANDBOXES is 0, as in a container), and E2B_API_KEY is not set. "
    "Set E2B_API_KEY, or allow local sandboxes as docs/deploy.md says."
)


def names() -> tuple[str, ...]:
    """The backends that can be had here, the one that runs get by themselves first."""
    found = [*(["e2b"] if settings.E2B_API_KEY else []), *(["local"] if settings.LOCAL_SANDBOXES else [])]
    return tuple(sorted(found, key=lambda name: name != settings.SANDBOX_BACKEND))


def why_none() -> str:
    """Why no run can start here, and what to do; "" where there is a backend."""
    return "" if names() else NONE


@cache
def backend(name: str) -> Backend:
    if name == "e2b":
        return E2BBackend(_e2b(), installation=installation(), timeout_s=settings.E2B_TIMEOUT_S)
    return LocalBackend(root=settings.DATA / "sandboxes", runtime=settings.DATA / "runtime", account=sandbox_account())


def account(name: str) -> str:
    """Which account of a backend we have, as the records of its sandboxes say it; "" where there are none."""
    return _e2b().mark if name == "e2b" else ""


def _e2b() -> Account:
    return Account(settings.E2B_API_KEY, settings.E2B_DOMAIN, settings.E2B_API_URL, settings.E2B_SANDBOX_URL)


@cache
def sandbox_account() -> accounts.Account | None:
    """The account sandboxes run under when we are root; None when they run as we do."""
    return accounts.ensure(accounts.SANDBOX_ACCOUNT) if os.geteuid() == 0 else None


def sandbox_gid() -> int | None:
    """The group that must be able to read mirrors."""
    account = sandbox_account()
    return account.gid if account else None


def installation() -> str:
    """This installation's name in sandbox keys: the same for all processes that share a SECRET_KEY."""
    return hashlib.sha256(b"installation:" + settings.SECRET_KEY.encode()).hexdigest()[:10]


def key(run_id: int, generation: int) -> str:
    return f"{installation()}:{run_id}:{generation}"


def agents_folder() -> Path:
    """The agents' programs on this host; what a sandbox sees as /opt/agents."""
    return Path(settings.DATA, "agents")


def spec(run: Run) -> SandboxSpec:
    """What this run's sandboxes are made of, whatever its turn is."""
    return SandboxSpec(
        template=templates.for_run(run),
        mirror=run.task.repo.mirror_path,
        agents=agents_folder() if run.agent in ADAPTERS and ADAPTERS[run.agent].package else None,
        network=run.task.network_policy,
        limits=Limits(
            memory_mb=settings.SANDBOX_MEMORY_MB,
            cpu_weight=settings.SANDBOX_CPU_WEIGHT,
            processes=settings.SANDBOX_PROCESSES,
            disk_mb=settings.SANDBOX_DISK_MB,
        ),
    )
