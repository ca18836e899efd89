"""The first use of an agent on a host: its program is installed while the run waits, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agents.packages import PACKAGES
from tests.models.server import ModelServer
from tests.spine.product import Product, children, wait_for

pytestmark = pytest.mark.long


def submit(product: Product) -> int:
    said = product.manage("submit", "--repo", str(product.repo), "--agent", "codex", "--prompt", "Say hello.", "--json")
    return int(json.loads(said.stdout)["runs"][0]["id"])


def installation(product: Product) -> dict[str, Any]:
    return next(iter(product.rows("SELECT * FROM tasks_operation WHERE kind = 'install'")), {"percent": 0, "status": ""})


def test_installed_by_another_worker_when_the_first_one_is_killed(make_product: Callable[..., Product], model: ModelServer) -> None:
    product = make_product(**model.environment)
    product.environment["ALLOW_PRIVATE_HOSTS"] += f",127.0.0.1:{model.port}"
    product.start()
    run = submit(product)
    wait_for(lambda: installation(product)["percent"] > 25, "a part of the download", 120)
    assert product.run(run)["status"] == "queued"
    assert not (product.data / "agents/codex" / PACKAGES["codex"].version).exists()
    for worker in children(product.service("work operations-")):
        os.kill(worker, signal.SIGKILL)
    product.do("UPDATE tasks_operation SET lease_until = now() WHERE kind = 'install'")
    product.enqueue("reconcile_all")
    assert product.ended(run, 180)["stage"] in ("", "agent")
    assert installation(product)["status"] == "succeeded"
    assert [path.name for path in (product.data / "agents/codex").iterdir() if path.name.startswith(".")] == [".lock"]


def test_without_a_way_to_the_registry_the_run_says_so(make_product: Callable[..., Product], model: ModelServer) -> None:
    product = make_product(**model.environment, npm_config_registry="http://127.0.0.1:9")
    product.start()
    ended = product.ended(submit(product), 120)
    assert ended["status"] == "errored"
    assert ended["error"] == (
        "Codex could not be installed. The npm registry cannot be reached from this server (ECONNREFUSED). "
        "Check its network and proxy, and try again."
    )
