"""A setup script runs for the first run and for the environment that is kept, and not again until something changes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.spine.product import BRISK, GIT, Product, send, wait_for

ENVIRONMENT = BRISK
SCRIPT = "cat made.txt ~/.cache/deps/it; echo work > work.txt; echo more >> made.txt\n"


class Shop:
    """A repository with a lock file and a setup script that tells how often it ran."""

    def __init__(self, product: Product, name: str) -> None:
        self.product, self.name = product, name
        self.folder = product.folder / name
        self.folder.mkdir()
        self.git("init", "-q")
        self.lock("1")
        self.start("true")
        hosts = f'["127.0.0.1:{product.witness.port}"]'
        setup = product.witness.call(name) + "echo made > made.txt; mkdir -p ~/.cache/deps; echo cached > ~/.cache/deps/it\n"
        product.do("UPDATE tasks_repo SET setup_script = %s, network_hosts = %s WHERE id = %s", setup, hosts, self.id)
        product.do("UPDATE tasks_repo SET prepares = true WHERE id = %s", self.id)

    @property
    def id(self) -> int:
        return int(self.product.rows("SELECT id FROM tasks_repo WHERE source = %s", str(self.folder))[0]["id"])

    @property
    def setups(self) -> int:
        """How often the setup script has run."""
        return self.product.witness.count(self.name)

    def git(self, *words: str) -> None:
        subprocess.run([*GIT, *words], cwd=self.folder, check=True)

    def lock(self, text: str) -> None:
        (self.folder / "uv.lock").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", text)

    def start(self, script: str) -> int:
        """A run of this script, once it has succeeded."""
        (run,) = self.product.submit(script, repo=self.folder)
        assert self.product.ended(run)["status"] == "succeeded", self.product.tail()
        return run

    def environments(self) -> list[dict[str, Any]]:
        return self.product.rows("SELECT * FROM tasks_preparedenvironment WHERE repo_id = %s ORDER BY id", self.id)

    def ready(self, number: int) -> dict[str, Any]:
        """The newest environment, once it is the `number`th that there is and ready."""

        def there() -> bool:
            rows = self.environments()
            return len(rows) == number and rows[-1]["status"] == "ready"

        try:
            wait_for(there, f"{number} environments of {self.name}", 60, 0.05)
        except AssertionError as failure:
            failure.add_note(f"{self.environments()}\n{self.product.tail()}")
            raise
        return self.environments()[-1]

    def content(self, run: int) -> bytes:
        patch = self.product.patch(run)
        assert patch is not None
        return bytes(patch["content"])

    def forgotten(self, row: dict[str, Any]) -> None:
        """Wait for what was kept to be deleted."""

        def is_gone() -> bool:
            self.product.enqueue("reconcile_all")
            return row["id"] not in [other["id"] for other in self.environments()]

        wait_for(is_gone, "its end", 30, 0.5)
        assert not (self.kept / row["ref"]).exists()

    @property
    def kept(self) -> Path:
        return self.product.data / "sandboxes" / ".prepared"


@pytest.fixture
def shop(product: Product, request: pytest.FixtureRequest) -> Iterator[Shop]:
    shop = Shop(product, request.node.name.replace("_", "-"))
    yield shop
    product.do("UPDATE tasks_repo SET prepares = false WHERE id = %s", shop.id)


def test_the_second_run_begins_with_what_the_first_had_to_make(product: Product, shop: Shop) -> None:
    first = shop.start(SCRIPT)
    row = shop.ready(1)
    assert shop.setups == 2  # of the run itself, and of the environment

    second = shop.start(SCRIPT)

    assert shop.setups == 2
    assert product.text(second) == "made\ncached\n"
    assert product.text(second, step="setup") == ""
    assert shop.content(second) == shop.content(first)
    assert b"made.txt" in shop.content(second)
    assert product.sandboxes(second)[0]["prepared_id"] == row["id"]
    assert [event["data"]["prepared"]["seconds"] for event in product.events(second) if "prepared" in event["data"]] == [row["seconds"]]
    product.is_clean()


def test_what_one_run_does_another_does_not_see(product: Product, shop: Shop) -> None:
    shop.start("true")
    shop.ready(1)
    shop.start("echo spoiled > made.txt; rm -r ~/.cache/deps; echo x > ~/planted")

    run = shop.start("cat made.txt ~/.cache/deps/it; ls ~")

    assert product.text(run) == "made\ncached\n"


def test_follow_ups_go_on_and_a_lost_sandbox_is_made_anew_with_the_patch(product: Product, shop: Shop) -> None:
    shop.start("true")
    shop.ready(1)
    run = shop.start("echo mine >> made.txt; echo one > one.txt")
    product.manage("follow-up", str(run), "--prompt", "cat made.txt", "--wait")
    assert product.text(run) == "made\nmine\n"
    product.is_clean()
    product.enqueue("destroy_sandbox", product.sandboxes(run)[0]["id"])
    wait_for(lambda: product.sandboxes(run)[0]["status"] == "destroyed", "its end")

    product.manage("follow-up", str(run), "--prompt", "cat made.txt one.txt ~/.cache/deps/it", "--wait")

    assert product.text(run) == "made\nmine\n" + "made\nmine\none\ncached\n"
    assert shop.setups == 2


def test_another_lock_file_has_another_one_built(product: Product, shop: Shop) -> None:
    shop.start("true")
    shop.ready(1)
    shop.lock("2")

    shop.start("true")

    shop.ready(2)
    assert shop.setups == 4
    shop.start("true")
    assert shop.setups == 4


def test_built_anew_the_old_one_goes_with_its_last_sandbox(product: Product, shop: Shop) -> None:
    shop.start("true")
    old = shop.ready(1)
    run = shop.start("true")
    code = f"""
from tasks import environment
from tasks.models import PreparedEnvironment
row = PreparedEnvironment.objects.get(pk={old["id"]})
environment.rebuild_prepared(environment=row, by=row.repo.owner)
"""
    product.manage("shell", "-v", "0", "-c", code)
    new = shop.ready(2)
    assert new["key"] == old["key"]
    assert shop.setups == 3
    assert (shop.kept / old["ref"]).exists()
    product.do("UPDATE tasks_task SET archived_at = now() WHERE id = %s", product.run(run)["task_id"])

    shop.forgotten(old)

    shop.start("true")
    assert shop.setups == 3
    product.is_clean()


def test_killed_wherever_it_is_the_environment_comes_to_be(product: Product, shop: Shop) -> None:
    shop.start("true")
    send(product.workers(), signal.SIGKILL)
    wait_for(lambda: product.enqueue("reconcile_all") or bool(product.workers()), "new workers")

    shop.ready(1)

    shop.start("true")
    assert shop.environments()[0]["used_at"] is not None
    product.is_clean()
