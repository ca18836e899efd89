"""Prepared environments: what a setup script left behind, built once in a sandbox of its own and given to those that follow.

The building is an unlisted run, so all that holds for runs holds for it: caps, clocks, events, starts that are made again.
No agent of a user was ever in its sandbox. Reconcile (`tidy`) does whatever was left undone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet, Window
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now, RowNumber
from django.utils import timezone

from sandboxes.base import SandboxSpec
from sandboxes.errors import SandboxError, SandboxGone
from tasks.errors import AppError
from tasks.git.dependencies import fingerprint
from tasks.models import (
    FINAL,
    Event,
    EventKind,
    PreparedEnvironment,
    PreparedStatus,
    Repo,
    Run,
    RunStatus,
    Sandbox,
    SandboxStatus,
    Task,
    User,
)
from tasks.running import backends, checks, nudge, reaping, sleeping, unlisted

logger = logging.getLogger(__name__)

KEPT = 3  # environments of a repository in one place
AGAIN = timedelta(days=1)  # after which one that failed is tried again by itself
PATIENCE = timedelta(minutes=5)  # with a backend that does not keep what it should
STRAY_S = 3600.0  # what has been kept for so long is in a row, if it is wanted
MOST_LOG = 16_000  # characters of its end
_MOST_EVENTS = 50  # of it
SCRIPT = 'echo "The setup script is done; what it left is kept."'


# --- a run begins ---------------------------------------------------------------------------------------------------------


def choose(run: Run, row: Sandbox) -> bool:
    """Give a sandbox that is about to be made its repository's prepared environment. If there is none, one is begun, and this
    run goes on without. Gives whether that changes the row."""
    before, row.prepared = row.prepared_id, None
    if before is not None:
        row.save(update_fields=["prepared"])
    repo = run.task.repo
    is_for_setup = run.task.is_trial and not checks.is_check(run)
    if not is_for_setup and repo.setup_script and repo.prepares and not _would_leak(run.task):
        try:
            # None is begun for a restricted run: the script would meet that run's branch with all of the repository's network.
            if not _take(run, row) and not run.task.is_restricted:
                _begin_for(run, row.host)
        except AppError as error:
            logger.warning("Run %s begins without a prepared environment: %s", run.pk, error)
    return row.prepared_id != before


def _would_leak(task: Task) -> bool:
    """Whether what the setup script left may hold what the runs of this task are not to have."""
    return task.is_restricted and task.repo.variables.filter(is_secret=True).exists()


def _take(run: Run, row: Sandbox) -> bool:
    """Whether there was one that is ready; it cannot be deleted as long as the sandbox's row names it."""
    wanted = keys(run.task.repo, run.task.base_commit, run.task.base_branch, backends.spec(run).template)
    with transaction.atomic():
        ready = _at(run.task.repo, row.backend, row.host).filter(key__in=wanted, status=PreparedStatus.READY)
        found = ready.select_for_update().order_by("-pk").first()
        if found is None:
            return False
        PreparedEnvironment.objects.filter(pk=found.pk).update(used_at=Now(), expires_at=_expiry())
        row.prepared = found
        row.save(update_fields=["prepared"])
    return True


def keys(repo: Repo, commit: str, branch: str, template: str) -> list[str]:
    """The key of the environment that is built for this commit of this branch, and those of others that will do as well.

    What a setup script leaves may hold what its branch had in it, whatever its lock files say. So a branch uses what was built
    on it or on the default branch, and never the default branch what was built on another. RepoUnavailable.
    """
    return [_key(repo, commit, each, template) for each in dict.fromkeys([branch, repo.default_branch])]


def _key(repo: Repo, commit: str, branch: str, template: str) -> str:
    """A hash of all that an environment depends on; without SECRET_KEY it tells nothing of the secrets in it."""
    policy = repo.network_policy
    parts = {
        "branch": branch,
        "script": repo.setup_script,
        "variables": sorted((variable.name, variable.value) for variable in repo.variables.all()),
        "network": [policy.mode, *sorted(policy.hosts)],
        "template": template,
        "files": fingerprint(repo.mirror_path, commit, repo.setup_script),
    }
    return hmac.new(b"prepared:" + settings.SECRET_KEY.encode(), json.dumps(parts, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def gone(run: Run, row: Sandbox) -> None:
    """The backend says that what `row` was to begin with is not there any more: nobody gets it, and a new one is begun."""
    assert row.prepared is not None
    PreparedEnvironment.objects.filter(pk=row.prepared.pk, status=PreparedStatus.READY).update(status=PreparedStatus.GONE)
    choose(run, row)


def spec(run: Run, row: Sandbox) -> SandboxSpec:
    """What this sandbox is made of. One in which an environment is built has the system of those that it is for."""
    made = backends.spec(run)
    building = PreparedEnvironment.objects.filter(run=run).first() if run.task.is_trial else None
    if building is not None:
        return replace(made, template=building.template)
    return replace(made, prepared=row.prepared.ref if row.prepared else "")


def told(row: Sandbox) -> dict[str, Any]:
    """What the log says where the setup script would stand."""
    prepared = row.prepared
    assert prepared is not None
    return {"prepared": {"at": prepared.created_at.isoformat(), "seconds": prepared.seconds}}


# --- building -------------------------------------------------------------------------------------------------------------


def begin(repo: Repo, by: User, *, commit: str, branch: str, place: tuple[str, str], template: str, anew: bool = False) -> Run | None:
    """Queue the building of an environment at `place` (backend, host); None when there is one, or one failed not long ago.

    With `anew` there is a new one whatever there was. RepoUnavailable, Conflict.
    """
    backend, host = place
    wanted, *others = keys(repo, commit, branch, template)
    with transaction.atomic():
        Repo.objects.hold(repo.pk)
        present = _at(repo, backend, host).exclude(status=PreparedStatus.GONE)
        good = present.filter(key__in=[wanted, *others]).exclude(status=PreparedStatus.FAILED, created_at__lt=Now() - AGAIN)
        if not anew and good.exists():
            return None
        for old in present.filter(key=wanted):
            forget(old)
        title = f"Environment of {repo.name}"
        run = unlisted.create(repo=repo, by=by, title=title, script=SCRIPT, commit=commit, branch=branch, backend=backend)
        PreparedEnvironment.objects.create(
            repo=repo, backend=backend, host=host, key=wanted, template=template, base_commit=commit, run=run
        )
    return run


def after(run: Run) -> None:
    """What follows from the end of a trial or a build: what was built is kept; after a trial that went well, one is built."""
    if PreparedEnvironment.objects.filter(run=run).exists():
        settle(run.pk)
        return
    run.refresh_from_db(fields=["status"])
    if run.status != RunStatus.SUCCEEDED or not run.task.repo.setup_script or not run.task.repo.prepares:
        return
    try:
        _begin_for(run, settings.HOST_NAME if run.backend == "local" else "")
    except AppError as error:
        logger.warning("No environment is prepared after run %s: %s", run.pk, error)


def _begin_for(run: Run, host: str) -> None:
    task, template = run.task, backends.spec(run).template
    begin(task.repo, task.owner, commit=task.base_commit, branch=task.base_branch, place=(run.backend, host), template=template)


def settle(run_id: int) -> None:
    """Keep what was built by a run that is over, and destroy its sandbox; again and again is fine."""
    with sleeping.alone(run_id):
        row = PreparedEnvironment.objects.select_related("run").filter(run=run_id, run__status__in=FINAL).first()
        if row is None or row.status != PreparedStatus.BUILDING or row.run is None:
            return
        alive = [SandboxStatus.LIVE, SandboxStatus.PAUSED]
        box = Sandbox.objects.filter(run=run_id, generation=row.run.generation, status__in=alive).exclude(ref="").first()
        status, row.error = PreparedStatus.FAILED, row.run.error
        if box is not None and (box.backend, box.host) != (row.backend, row.host):
            row.error = "It was built in another place than the runs that need it, because that place refused it."
        elif row.run.status == RunStatus.SUCCEEDED and box is not None:
            try:
                row.ref, status = async_to_sync(_keep)(box), PreparedStatus.READY
            except SandboxError as error:
                if not isinstance(error, SandboxGone) and timezone.now() - (row.run.finished_at or row.created_at) < PATIENCE:
                    logger.warning("%s was not kept (%s); reconcile tries again.", row, error)
                    return
                row.error = f"What the setup script left could not be kept. {error}"
        elif row.run.status == RunStatus.SUCCEEDED:
            row.error = "The sandbox was gone before what the setup script had left was kept."
        elif row.run.status == RunStatus.INTERRUPTED:
            status = PreparedStatus.GONE  # it was we who stopped; the next run begins another one
        elif row.run.status == RunStatus.CANCELED:
            row.error = "It was stopped."
        row.log, row.seconds = said(run_id)
        row.save(update_fields=["ref", "error", "log", "seconds"])
        # If it was deleted meanwhile, what was kept is discarded with it.
        PreparedEnvironment.objects.filter(pk=row.pk, status=PreparedStatus.BUILDING).update(status=status, expires_at=_expiry())
        Sandbox.objects.filter(run=run_id).exclude(status=SandboxStatus.DESTROYED).update(status=SandboxStatus.LOST)
        nudge.tell([nudge.user_group(owner) for owner in Task.objects.filter(runs=run_id).values_list("owner", flat=True)])
    for sandbox_id in Sandbox.objects.filter(run=run_id, status=SandboxStatus.LOST).values_list("pk", flat=True):
        reaping.destroy_sandbox(sandbox_id)


async def _keep(row: Sandbox) -> str:
    box = await backends.backend(row.backend).connect(row.ref)
    await box.resume()
    return await box.keep()


def said(run_id: int) -> tuple[str, float | None]:
    """The end of what the setup script said, and the seconds that it took."""
    logs = Event.objects.filter(run=run_id, kind=EventKind.LOG, data__step="setup").order_by("-seq")[:_MOST_EVENTS]
    text = "".join(str(event.data.get("text", "")) for event in reversed(logs))
    ended = Event.objects.filter(run=run_id, kind=EventKind.STATUS, data__step="setup", data__has_key="ended").order_by("-seq").first()
    seconds = ended.data["ended"].get("seconds") if ended else None
    return text[-MOST_LOG:], seconds if isinstance(seconds, int | float) else None


# --- the end --------------------------------------------------------------------------------------------------------------


def forget(row: PreparedEnvironment) -> None:
    """Give an environment to nobody any more; what is being built is stopped. It is deleted when no sandbox stands on it."""
    PreparedEnvironment.objects.filter(pk=row.pk).update(status=PreparedStatus.GONE)
    if row.run_id is not None:
        unlisted.stop(row.run_id)
    nudge.enqueue(_queue(row), "discard_prepared", row.pk)


def tidy() -> None:
    """Reconcile's part: what was built and not kept, what nobody will use again, what is to be deleted."""
    rows = PreparedEnvironment.objects.exclude(status=PreparedStatus.GONE)
    for row in rows.filter(status=PreparedStatus.BUILDING, run__status__in=FINAL):
        nudge.enqueue_now(_queue(row), "settle_prepared", row.run_id)
    is_over = Q(expires_at__lt=Now()) | Q(repo__removed_at__isnull=False) | Q(repo__prepares=False) | Q(status="building", run=None)
    newest = Window(RowNumber(), partition_by=["repo", "backend", "host"], order_by=Coalesce("used_at", "created_at").desc())
    built = rows.exclude(status=PreparedStatus.BUILDING).annotate(place=newest)
    for row in [*rows.filter(is_over), *built.filter(place__gt=KEPT)]:
        forget(row)
    for row in PreparedEnvironment.objects.filter(status=PreparedStatus.GONE):
        if row.run is not None and not row.run.is_over:
            unlisted.stop(row.run.pk)
        elif not _standing_on(row).exists():
            nudge.enqueue_now(_queue(row), "discard_prepared", row.pk)


def discard(prepared_id: int) -> None:
    """Delete an environment that is gone, with the run that built it, once no sandbox stands on it; twice is fine."""
    row = PreparedEnvironment.objects.select_related("run").filter(pk=prepared_id, status=PreparedStatus.GONE).first()
    if row is None or (row.run is not None and not row.run.is_over) or _standing_on(row).exists():
        return
    if row.ref:
        try:
            async_to_sync(backends.backend(row.backend).discard)(row.ref)
        except SandboxError as error:
            logger.warning("%s was not deleted (%s); trying again.", row, error)
            return
    with transaction.atomic():
        if row.run is not None:
            Task.objects.filter(pk=row.run.task_id).delete()
        PreparedEnvironment.objects.filter(pk=row.pk).delete()


def discard_strays() -> None:
    """Delete what is kept and in no row: a worker died before it had written the reference down, or its owner's rows were deleted."""
    for name in backends.names():
        backend = backends.backend(name)
        try:
            found = async_to_sync(backend.kept)(for_s=STRAY_S)
            known = PreparedEnvironment.objects.filter(backend=name, ref__in=found).values_list("ref", flat=True)
            for ref in set(found) - set(known):
                logger.info("The prepared environment %s is in no row, so it is deleted.", ref)
                async_to_sync(backend.discard)(ref)
        except SandboxError as error:
            logger.warning("What is kept at %s was not looked through (%s); trying again later.", name, error)


def _standing_on(row: PreparedEnvironment) -> QuerySet[Sandbox]:
    """The sandboxes without which it could be deleted: those that began with it, and its own."""
    own = Q(run=row.run_id) if row.run_id is not None else Q()
    return Sandbox.objects.filter(Q(prepared=row) | own).exclude(status=SandboxStatus.DESTROYED)


def _at(repo: Repo, backend: str, host: str) -> QuerySet[PreparedEnvironment]:
    return PreparedEnvironment.objects.filter(repo=repo, backend=backend, host=host)


def _queue(row: PreparedEnvironment) -> str:
    return f"host-{row.host}" if row.host else settings.QUEUE_RUNS


def _expiry() -> CombinedExpression:
    return Now() + timedelta(days=settings.PREPARED_DAYS)
