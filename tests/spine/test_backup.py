"""Backup and restore by the very commands of docs/deploy.md: what one installation had, an empty one has afterwards."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asynccode.servers import _PGINSTALL
from tests.spine.person import Person
from tests.spine.product import GIT, SOURCE, Product, wait_for

pytestmark = pytest.mark.long

DOCUMENT = SOURCE / "docs/deploy.md"
SECRET = "kept-in-the-database-41"
# What there is to be found again, as an operator's Python says it.
EVERYTHING = """
from tasks.models import Artifact, AuditEntry, Event, Patch, Task, User, Variable
print([(v.name, v.value) for v in Variable.objects.order_by("pk")])
print([(a.path, bytes(a.content)) for a in Artifact.objects.order_by("pk")])
print([(p.run_id, p.sha256, len(bytes(p.content))) for p in Patch.objects.filter(kind="final", run_id=RUN)])
print(list(Event.objects.filter(run_id=RUN).order_by("seq").values_list("seq", "kind", "data")))
print(list(Task.objects.filter(runs=RUN).values_list("pk", "prompt", "base_commit")), list(User.objects.values_list("username", flat=True)))
print(list(AuditEntry.objects.order_by("pk").values_list("pk", "kind", "at")[:1]))
"""


def commands(heading: str) -> str:
    """The first block below a heading of the document."""
    _, _, below = DOCUMENT.read_text().partition(f"\n## {heading}\n")
    found = re.search(r"^```\n(.*?)^```", below, re.M | re.S)
    assert found
    return found[1]


def shell(command: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=folder,
        env={"PATH": f"{_bin()}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _bin() -> Path:
    return next(Path(sys.prefix).glob("lib/python3*/site-packages")) / _PGINSTALL / "bin"


def database(product: Product) -> str:
    """As the document says it for the embedded one."""
    return f"postgres://asynccode@/asynccode?host={product.data}/sockets/postgres"


def lose_a_commit(repo: Path, keep: str) -> None:
    """The branch goes back to `keep`, and the source forgets what came after."""
    for words in (["update-ref", "refs/heads/main", keep], ["reflog", "expire", "--expire=now", "--all"], ["gc", "--quiet", "--prune=now"]):
        subprocess.run([*GIT, "-C", str(repo), *words], check=True)


def ask(product: Product, code: str) -> str:
    return product.manage("shell", "-v", "0", "-c", code).stdout


def test_a_backup_of_a_running_installation_restored_into_an_empty_one(make_product: Callable[..., Product], tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    # No keys are set, so they are made up, and lie in the data folder.
    settings: dict[str, Any] = {"SECRET_KEY": "", "ENCRYPTION_KEYS": "", "CHECKPOINT_S": "1"}
    old = make_product(**settings)
    old.start()
    git = [*GIT, "-C", str(old.repo)]
    first = subprocess.run([*git, "rev-parse", "main"], capture_output=True, text=True, check=True).stdout.strip()
    (old.repo / "lost.txt").write_text("only here\n")
    for words in (["add", "lost.txt"], ["commit", "--quiet", "-m", "soon lost"]):
        subprocess.run([*git, *words], check=True)
    variable = f"name='TOKEN', value={SECRET!r}, is_secret=True, phase='setup'"
    ask(old, f"from tasks.models import Repo; Repo.objects.get().variables.create({variable})")
    (run,) = old.submit("cat lost.txt; echo changed >> lost.txt; mkdir artifacts; echo found > artifacts/report.txt")
    assert old.ended(run)["status"] == "succeeded"
    before, patch = ask(old, EVERYTHING.replace("RUN", str(run))), old.manage("patch", str(run)).stdout
    with old.witness.held("work"):
        (at_work,) = old.submit(f"echo kept > kept.txt; {old.witness.call('work')}")
        wait_for(lambda: old.rows("SELECT 1 FROM tasks_patch WHERE run_id = %s", at_work), "a checkpoint")
        shell(commands("Backup"), tmp_path, DATABASE_URL=database(old), ASYNCCODE_DATA=str(old.data))
    assert SECRET in before
    assert "found" in before
    assert "only here" in before
    raw = (tmp_path / "asynccode.dump").read_bytes()
    assert SECRET.encode() not in raw
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("asynccode*")} == {0}
    lose_a_commit(old.repo, first)
    old.kill_everything()  # with the sandboxes and all

    new = make_product(**settings, LOCAL_REPO_ROOTS=str(old.folder))
    new.data.mkdir(mode=0o711)
    unpack, load = commands("Restore").splitlines()
    shell(unpack, tmp_path, ASYNCCODE_DATA=str(new.data))
    shutil.copy(tmp_path / "asynccode.dump", new.folder)
    done = subprocess.run(
        [sys.executable, str(SOURCE / "manage.py"), "up", "--exec", f"cd {tmp_path}; {load}"],
        env=new.environment | {"PATH": f"{_bin()}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    new.start()
    assert ask(new, EVERYTHING.replace("RUN", str(run))) == before
    assert new.manage("patch", str(run)).stdout == patch
    person = Person(new)
    try:
        assert "changed" in person.get(f"/runs/{run}/changes/")  # of a commit that only the mirror still has
        assert "only here" in person.get(f"/runs/{run}/")
    finally:
        person.close()
    # Its sandbox is gone, so it ends with its checkpoint: scripts are not run twice.
    assert new.settled(at_work, 120)["status"] == "interrupted"
    assert "kept" in new.manage("patch", str(at_work)).stdout
