"""An agent in a sandbox of E2B's: its model is asked through the gateway's public address, and the key stays here."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.packages import PACKAGES
from tests.e2bcloud.process import Cloud
from tests.installed import installed
from tests.models.server import KEY, ModelServer
from tests.spine.product import Product, wait_for

CLAUDE = PACKAGES["claude"]


@pytest.fixture(scope="module")
def names() -> Iterator[Path]:
    """What a template of ours has at /opt/agents/bin; where the sandboxes' account can reach it."""
    with tempfile.TemporaryDirectory(prefix="asynccode-template-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / CLAUDE.program).symlink_to(CLAUDE.path)
        yield Path(folder)


@pytest.fixture(scope="module")
def product(model: ModelServer, names: Path) -> Iterator[tuple[Product, Cloud]]:
    binds = (f"{installed('claude') / 'claude'}:/opt/agents/claude", f"{names}:/opt/agents/bin")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Cloud.start(None, *(word for bind in binds for word in ("--ro-bind", bind))) as cloud:
        gateway = {"GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}", "GATEWAY_LISTEN": f"127.0.0.1:{port}"}
        product = Product(**{"E2B_CREATIONS_PER_S": "20"} | gateway | cloud.env | model.environment)
        product.environment["ALLOW_PRIVATE_HOSTS"] += f",127.0.0.1:{model.port}"
        try:
            product.start()
            yield product, cloud
        finally:
            product.close()


def test_it_asks_its_model_and_no_key_enters_the_sandbox(product: tuple[Product, Cloud], model: ModelServer) -> None:
    product, cloud = product
    words = [
        "submit",
        "--repo",
        str(product.repo),
        "--agent",
        "claude",
        "--prompt",
        "[[write hello.txt]] [[say Done.]]",
        "--json",
        "--wait",
    ]
    product.manage(*words)
    (run,) = product.rows("SELECT * FROM tasks_run WHERE agent = 'claude'")

    assert (run["status"], run["backend"]) == ("succeeded", "e2b"), run["error"]
    assert product.files(run["id"]) == {"hello.txt": "hello from hello.txt\n"}
    assert run["cost_usd"] > 0
    assert product.rows("SELECT 1 FROM tasks_modelcall WHERE run_id = %s", run["id"])
    wait_for(lambda: product.rows("SELECT 1 FROM tasks_conversation WHERE run_id = %s", run["id"]), "the conversation", 60)
    (row,) = product.sandboxes(run["id"])
    assert row["record"]["keys"] == "broker"
    assert {seen.key for seen in model.asked("hello.txt") if seen.status == 200} == {KEY}

    (sandbox,) = [one for one in cloud.sandboxes() if one["id"] == row["ref"]]
    assert KEY not in str(sandbox)
    assert KEY not in str(product.events(run["id"]))
    holding = [path for path in Path(sandbox["root"]).rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holding == []
