"""Two hosts of one installation, as docs/deploy.md has it: the database, Redis and the keys are one, data folders are not shared."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.spine.person import Person
from tests.spine.product import BRISK, GIT, Product

pytestmark = pytest.mark.long


def second_host(first: Product, make_product: Callable[..., Product]) -> Product:
    names = ("SECRET_KEY", "ENCRYPTION_KEYS", "ALLOW_PRIVATE_HOSTS", "LOCAL_REPO_ROOTS")
    found = make_product(
        **{name: first.environment[name] for name in names},
        ASYNCCODE_HOST="second",
        DATABASE_URL=f"postgres://asynccode@/asynccode?host={first.data}/sockets/postgres",
        REDIS_URL=f"unix://{first.data}/sockets/valkey/valkey.sock",
        LOG_FORMAT="text",
        **BRISK,
    )
    found.data.mkdir(mode=0o711)
    (found.data / "sockets").symlink_to(first.data / "sockets")  # where these tests look for the database
    return found


def commit(product: Product, name: str) -> None:
    (product.repo / name).write_text(f"{name}\n")
    for words in (["add", name], ["commit", "--quiet", "-m", name]):
        subprocess.run([*GIT, "-C", str(product.repo), *words], check=True)


def test_runs_start_on_either_host_and_both_show_them_all(make_product: Callable[..., Product]) -> None:
    first = make_product(**BRISK)
    first.start()
    second = second_host(first, make_product)
    second.start()
    persons = [Person(first), Person(second)]
    try:
        for name in ("one", "two"):  # the second time, the copy of whichever host was not asked is behind
            commit(first, name)
            hosts: dict[str, list[int]] = {}
            while len(hosts) < 2:
                for run in first.submit(f"sed 's/^/contents of /' {name} > made.txt; sleep 1", attempts=4):
                    ended = first.ended(run)
                    assert ended["status"] == "succeeded", ended
                    (row,) = first.rows("SELECT host FROM tasks_sandbox WHERE run_id = %s ORDER BY generation DESC LIMIT 1", run)
                    hosts.setdefault(row["host"], []).append(run)
            assert set(hosts) == {"spine", "second"}
            for run in (runs[0] for runs in hosts.values()):
                for person in persons:
                    page = person.get(f"/runs/{run}/changes/")
                    assert 'title="made.txt"' in page or ">made.txt<" in page, page
                    assert "contents of " + name in page
    finally:
        for person in persons:
            person.close()
