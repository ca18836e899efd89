"""Prepared environments: built beside the first run, given to those that follow, and deleted when nobody needs them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from sandboxes.errors import SandboxError
from tasks import environment, repositories, trials
from tasks.errors import NotAllowed
from tasks.models import (
    Event,
    EventKind,
    Operation,
    Patch,
    PatchKind,
    PreparedEnvironment,
    PreparedStatus,
    Repo,
    Run,
    RunStatus,
    Sandbox,
    SandboxStatus,
    Task,
    Turn,
    User,
)
from tasks.running import checks, events, jobs, lifecycle, nudge, operations, prepared, reconcile, specs
from tests.tasks.conftest import MakeRun
from tests.tasks.running.fake import FakeBackend

pytestmark = pytest.mark.django_db


class Shop:
    """alice's repository, and what is done on it."""

    def __init__(self, repo: Repo, folder: Path, make_run: MakeRun, make_task: Callable[..., Task]) -> None:
        self.repo, self.folder, self.make_run, self.make_task = repo, folder, make_run, make_task

    def commit(self, **files: str) -> None:
        git = ["git", "-C", str(self.folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
        for name, text in files.items():
            (self.folder / name.replace("_", ".")).write_text(text)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "more"], check=True)

    def start(self, branch: str = "main") -> Run:
        """A run of a new task, as far as the hand-over to its sandbox."""
        commit = operations.pin(self.repo, branch)
        self.repo.refresh_from_db()
        task = self.make_task(repo=self.repo, base_branch=branch, base_commit=commit)
        run = self.make_run(task, status=RunStatus.STARTING)
        jobs.start_turn(run.pk, 1)
        return run

    def row(self) -> PreparedEnvironment:
        """The newest environment."""
        return PreparedEnvironment.objects.order_by("-pk")[0]

    def build(self, to: RunStatus = RunStatus.SUCCEEDED) -> PreparedEnvironment:
        """Do what is to be built, so that its run ends like this."""
        run = self.row().run
        assert run is not None
        lifecycle.move(run.pk, source=[RunStatus.QUEUED], to=RunStatus.STARTING)
        jobs.start_turn(run.pk, 1)
        events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": "installed\n", "step": "setup"})
        events.append(run.pk, EventKind.STATUS, {"step": "setup", "ended": {"reason": "exit", "code": 0, "seconds": 42.0}})
        if to == RunStatus.SUCCEEDED:
            outcome = {"step": "agent", "reason": "exit", "code": 0, "has_patch": False}
            Turn.objects.filter(run=run).update(outcome=outcome)
            jobs.finish_turn(run.pk, 1)
        else:
            lifecycle.finish(run.pk, source=[RunStatus.RUNNING], to=to, error="It broke." if to == RunStatus.ERRORED else "")
            jobs.settle_prepared(run.pk)
        return self.row()


@pytest.fixture
def shop(alice: User, make_run: MakeRun, make_task: Callable[..., Task]) -> Iterator[Shop]:
    with tempfile.TemporaryDirectory(dir=settings.LOCAL_REPO_ROOTS[0]) as folder:
        subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
        repo = Repo(source=folder)
        shop = Shop(repo, Path(folder), make_run, make_task)
        shop.commit(uv_lock="1")
        shop.repo = repositories.add_repo(by=alice, source=folder)
        jobs.run_operation(Operation.objects.get(subject=f"repo:{shop.repo.pk}").pk)
        Repo.objects.filter(pk=shop.repo.pk).update(setup_script="make deps")
        yield shop


def steps(backend: FakeBackend) -> list[str]:
    """Of the turn that was handed over last."""
    return [step.name for step in backend.made[-1].turns[-1].steps]


def test_the_first_run_sets_itself_up_and_an_environment_is_built_beside_it(shop: Shop, local: FakeBackend) -> None:
    run = shop.start()
    assert steps(local) == ["setup", "agent"]
    row = shop.row()
    assert (row.status, row.base_commit, row.host) == (PreparedStatus.BUILDING, run.task.base_commit, settings.HOST_NAME)
    assert row.run is not None
    assert row.run.status == RunStatus.QUEUED
    assert row.run.task.is_trial
    shop.start()
    assert PreparedEnvironment.objects.count() == 1


def test_what_was_built_is_kept_with_its_log_and_its_sandbox_is_destroyed(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    row = shop.build()
    assert (row.status, row.log, row.seconds) == (PreparedStatus.READY, "installed\n", 42.0)
    assert [row.ref] == local.kept_refs
    assert row.run is not None
    assert row.run.sandboxes.get().status == SandboxStatus.DESTROYED
    assert local.made[1].ref not in local.boxes
    assert row.expires_at is not None
    assert row.expires_at > timezone.now() + timedelta(days=settings.PREPARED_DAYS - 1)


def test_the_second_run_begins_with_it_and_says_so(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    row = shop.build()
    PreparedEnvironment.objects.update(expires_at=timezone.now())
    run = shop.start()
    assert steps(local) == ["agent"]
    assert local.made[-1].spec.prepared == row.ref
    assert run.sandboxes.get().prepared == row
    row.refresh_from_db()
    assert row.used_at is not None
    assert row.expires_at is not None
    assert row.expires_at > timezone.now() + timedelta(days=1)
    told = Event.objects.get(run=run, data__has_key="prepared").data["prepared"]
    assert told == {"at": row.created_at.isoformat(), "seconds": 42.0}


def test_a_check_begins_with_it_and_has_its_patch_on_top(shop: Shop, local: FakeBackend) -> None:
    run = shop.start()
    row = shop.build()
    Repo.objects.update(check_command="make test")
    files = [{"path": "x", "additions": 1, "deletions": 0}]
    patch = Patch.objects.create(run=run, turn=run.turns.get(), kind=PatchKind.FINAL, content=b"x", sha256="x", files=files)
    check = checks.want(Patch.objects.get(pk=patch.pk))
    assert check is not None
    jobs.tend_check(check.pk)
    hidden = Run.objects.get(checks=check)
    lifecycle.move(hidden.pk, source=[RunStatus.QUEUED], to=RunStatus.STARTING)
    jobs.start_turn(hidden.pk, 1)
    assert steps(local) == ["agent"]
    box = local.made[-1]
    assert box.spec.prepared == row.ref
    assert box.turns[-1].checkout.patch == specs.RESTORED_PATCH
    assert box.files[specs.RESTORED_PATCH] == b"x"


def test_handed_over_again_the_turn_is_the_same(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    shop.build()
    run = shop.start()
    jobs.hand_turn(run.pk, 1)
    first, again = local.made[-1].turns
    assert first.as_json() == again.as_json()


def change_script(repo: Repo, alice: User) -> None:
    Repo.objects.filter(pk=repo.pk).update(setup_script="make other")


def change_secret(repo: Repo, alice: User) -> None:
    environment.set_variable(repo=repo, by=alice, name="TOKEN", value="s3cr3t", is_secret=True)


def change_network(repo: Repo, alice: User) -> None:
    Repo.objects.filter(pk=repo.pk).update(network_hosts=["example.org"])


@pytest.mark.parametrize("change", [change_script, change_secret, change_network])
def test_another_one_is_built_when_what_it_depends_on_changes(
    shop: Shop, alice: User, local: FakeBackend, change: Callable[[Repo, User], None]
) -> None:
    shop.start()
    first = shop.build()
    change(shop.repo, alice)
    shop.start()
    assert steps(local) == ["setup", "agent"]
    assert shop.row().key != first.key
    assert "s3cr3t" not in shop.row().key


def test_another_one_is_built_for_another_lock_file_and_the_first_is_kept(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    first = shop.build()
    shop.commit(main_py="print()")
    shop.start()
    assert local.made[-1].spec.prepared == first.ref
    shop.commit(uv_lock="2")
    shop.start()
    assert local.made[-1].spec.prepared == ""
    second = shop.build()
    shop.start()
    assert local.made[-1].spec.prepared == second.ref
    shop.commit(uv_lock="1")
    shop.start()
    assert local.made[-1].spec.prepared == first.ref


def test_a_branch_begins_with_what_the_default_branch_made_and_never_the_other_way_round(shop: Shop, local: FakeBackend) -> None:
    """Whoever may push a branch could have its setup leave something for the runs on main."""
    subprocess.run(["git", "-C", str(shop.folder), "branch", "feature"], check=True)
    shop.start("feature")
    of_feature = shop.build()
    shop.start("feature")
    assert local.made[-1].spec.prepared == of_feature.ref
    shop.start("main")
    assert local.made[-1].spec.prepared == ""
    of_main = shop.build()
    assert of_main.status == PreparedStatus.READY
    of_feature.delete()
    shop.start("feature")
    assert local.made[-1].spec.prepared == of_main.ref


def test_what_another_place_built_is_not_kept_for_this_one(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    PreparedEnvironment.objects.update(backend="e2b", host="")
    row = shop.build()
    assert (row.status, row.ref) == (PreparedStatus.FAILED, "")
    assert "another place" in row.error


def test_one_that_failed_is_not_tried_again_until_a_day_has_passed(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    row = shop.build(RunStatus.ERRORED)
    assert (row.status, row.error, row.log) == (PreparedStatus.FAILED, "It broke.", "installed\n")
    shop.start()
    assert shop.row() == row
    PreparedEnvironment.objects.update(created_at=timezone.now() - timedelta(days=1, minutes=1))
    shop.start()
    assert shop.row().status == PreparedStatus.BUILDING
    row.refresh_from_db()
    assert row.status == PreparedStatus.GONE


def test_one_that_our_own_end_interrupted_is_begun_again(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    row = shop.build(RunStatus.INTERRUPTED)
    assert row.status == PreparedStatus.GONE
    shop.start()
    assert shop.row().status == PreparedStatus.BUILDING


def test_one_that_cannot_be_kept_says_why(shop: Shop, local: FakeBackend) -> None:
    local.errors["keep"] = SandboxError("The disk is full.")
    shop.start()
    row = shop.build()
    assert row.status == PreparedStatus.BUILDING  # it is tried again for a while
    assert row.run is not None
    Run.objects.filter(pk=row.run.pk).update(finished_at=timezone.now() - prepared.PATIENCE)
    jobs.settle_prepared(row.run.pk)
    row.refresh_from_db()
    assert (row.status, row.error) == (PreparedStatus.FAILED, "What the setup script left could not be kept. The disk is full.")
    assert len(local.boxes) == 1


def test_a_worker_that_dies_before_it_is_kept_is_made_up_for(shop: Shop, local: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then nobody puts its sandbox to sleep or destroys it."""
    shop.start()
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "settle", lambda _run: None)
        row = shop.build()
    assert row.run is not None
    Run.objects.filter(pk=row.run.pk).update(finished_at=timezone.now() - timedelta(minutes=1))
    Sandbox.objects.filter(run=row.run).update(status=SandboxStatus.LIVE)
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(nudge, "enqueue_now", lambda *call: asked.append(call))
    reconcile.reconcile()
    assert [call[1:] for call in asked if call[1] in ("settle_prepared", "put_to_sleep", "destroy_sandbox")] == [
        ("settle_prepared", row.run.pk)
    ]
    jobs.settle_prepared(row.run.pk)
    assert shop.row().status == PreparedStatus.READY


def test_one_that_the_backend_has_no_more_is_done_without(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    row = shop.build()
    local.kept_refs.clear()
    run = shop.start()
    assert steps(local) == ["setup", "agent"]
    assert run.sandboxes.get().prepared is None
    row.refresh_from_db()
    assert row.status == PreparedStatus.GONE
    assert shop.row().status == PreparedStatus.BUILDING


def test_a_repository_that_wants_none_or_has_no_script_gets_none(shop: Shop, local: FakeBackend) -> None:
    Repo.objects.update(prepares=False)
    shop.start()
    Repo.objects.update(prepares=True, setup_script="")
    shop.start()
    assert not PreparedEnvironment.objects.exists()


def test_a_trial_runs_the_script_whatever_there_is_and_one_that_went_well_begins_one(shop: Shop, alice: User, local: FakeBackend) -> None:
    shop.repo.refresh_from_db()
    run = trials.start_trial(repo=shop.repo, by=alice)
    lifecycle.move(run.pk, source=[RunStatus.QUEUED], to=RunStatus.STARTING)
    jobs.start_turn(run.pk, 1)
    assert steps(local) == ["setup", "agent"]
    assert not PreparedEnvironment.objects.exists()
    Turn.objects.filter(run=run).update(outcome={"step": "agent", "reason": "exit", "code": 0, "has_patch": False})
    jobs.finish_turn(run.pk, 1)
    assert shop.row().status == PreparedStatus.BUILDING
    assert trials.newest_trial(shop.repo) == run


# --- the end ----------------------------------------------------------------------------------------------------------


def tidy() -> None:
    """What reconcile and the jobs that it asks for do."""
    prepared.tidy()
    for row in PreparedEnvironment.objects.filter(status=PreparedStatus.GONE):
        jobs.discard_prepared(row.pk)


def test_one_that_nobody_used_for_long_is_deleted_with_the_run_that_built_it(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    row = shop.build()
    tidy()
    assert shop.row() == row
    PreparedEnvironment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    tidy()
    assert not PreparedEnvironment.objects.exists()
    assert not Task.objects.filter(is_trial=True).exists()
    assert not local.kept_refs


def test_one_is_not_deleted_while_a_sandbox_stands_on_it(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    row = shop.build()
    run = shop.start()
    prepared.forget(row)
    tidy()
    assert local.kept_refs == [row.ref]
    shop.start()
    assert steps(local) == ["setup", "agent"]
    Sandbox.objects.filter(run=run).update(status=SandboxStatus.DESTROYED)
    tidy()
    assert not local.kept_refs


def test_only_the_newest_few_are_kept(shop: Shop, local: FakeBackend) -> None:
    for number in range(prepared.KEPT + 1):
        shop.commit(uv_lock=str(number))
        shop.start()
        shop.build()
    oldest = PreparedEnvironment.objects.order_by("pk")[0]
    tidy()
    assert PreparedEnvironment.objects.count() == prepared.KEPT
    assert not PreparedEnvironment.objects.filter(pk=oldest.pk).exists()


def test_with_its_repository_it_is_removed(shop: Shop, alice: User, local: FakeBackend) -> None:
    first = shop.start()
    shop.build()
    lifecycle.finish(first.pk, source=[RunStatus.RUNNING], to=RunStatus.SUCCEEDED)
    environment.remove_repo(repo=shop.repo, by=alice)
    tidy()
    assert not PreparedEnvironment.objects.exists()
    assert not local.kept_refs


def test_deleted_before_it_is_begun_nothing_is_left(shop: Shop, local: FakeBackend) -> None:
    run = shop.start()
    prepared.forget(shop.row())
    tidy()
    assert list(Run.objects.all()) == [run]
    assert not PreparedEnvironment.objects.exists()


def test_deleted_while_it_is_built_it_is_stopped(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    built = shop.row().run
    assert built is not None
    lifecycle.move(built.pk, source=[RunStatus.QUEUED], to=RunStatus.STARTING)
    jobs.start_turn(built.pk, 1)
    prepared.forget(shop.row())
    built.refresh_from_db()
    assert built.stop_requested_at is not None
    lifecycle.finish(built.pk, source=[RunStatus.RUNNING], to=RunStatus.CANCELED)
    tidy()
    assert shop.row().status == PreparedStatus.GONE
    jobs.destroy_sandbox(built.sandboxes.get().pk)
    tidy()
    assert not PreparedEnvironment.objects.exists()


def test_what_is_in_no_row_is_deleted(shop: Shop, local: FakeBackend) -> None:
    shop.start()
    row = shop.build()
    local.kept_refs.append("stray")
    jobs.discard_prepared_strays()
    assert local.kept_refs == [row.ref]


def test_it_is_built_anew_with_the_script_as_it_is_now(shop: Shop, alice: User, local: FakeBackend) -> None:
    shop.start()
    first = shop.build()
    Repo.objects.filter(pk=shop.repo.pk).update(setup_script="make other")
    first.refresh_from_db()
    run = environment.rebuild_prepared(environment=first, by=alice)
    second = shop.row()
    assert (second.run, second.status, second.base_commit) == (run, PreparedStatus.BUILDING, first.base_commit)
    assert second.key != first.key
    tidy()
    assert PreparedEnvironment.objects.get() == second
    assert not local.kept_refs


def test_nobody_else_deletes_it_or_builds_it_anew(shop: Shop, bob: User, local: FakeBackend) -> None:
    shop.start()
    row = shop.build()
    with pytest.raises(NotAllowed):
        environment.rebuild_prepared(environment=row, by=bob)
    with pytest.raises(NotAllowed):
        environment.delete_prepared(environment=row, by=bob)
    assert shop.row().status == PreparedStatus.READY
