"""The main job in sandboxes of E2B's: the unmodified SDK against the loopback cloud, which runs in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from e2b import AsyncSandbox

from tests.e2bcloud.process import Cloud
from tests.e2bcloud.real import IS_WANTED, RealCloud
from tests.spine.product import Product, chatty, wait_for


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud | RealCloud]:
    with RealCloud() if IS_WANTED else Cloud.start() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def product(cloud: Cloud) -> Iterator[Product]:
    product = Product(**{"CHECKPOINT_S": "1", "E2B_CREATIONS_PER_S": "20"} | cloud.env)
    try:
        product.start()
        yield product
    finally:
        product.close()


@pytest.fixture(autouse=True)
def _no_faults(cloud: Cloud) -> Iterator[None]:
    yield
    cloud.clear()


def of(cloud: Cloud, product: Product, run: int) -> list[dict[str, Any]]:
    """The run's sandboxes as the cloud has them."""
    found = cloud.sandboxes(asynccode=product.installation)
    return [one for one in found if one["metadata"]["asynccode_key"].split(":")[1] == str(run)]


def says(product: Product, run: int, text: str) -> Callable[[], bool]:
    return lambda: text in product.text(run)


def contiguous(product: Product, run: int) -> bool:
    events = product.events(run)
    return [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_the_main_job_and_a_follow_up_with_the_follower_killed_in_the_middle(product: Product, cloud: Cloud) -> None:
    (run,) = product.submit("echo ready | tee own.log\n" + chatty(6, 20) + "echo one > one.txt; echo here > ~/home.txt\n")
    wait_for(says(product, run, "ready"), "the script")
    os.kill(product.service("follow"), signal.SIGKILL)

    assert product.ended(run, 90)["status"] == "succeeded"
    assert product.faults(run) == []
    assert product.files(run)["one.txt"] == "one\n"
    (row,) = product.sandboxes(run)
    assert (row["backend"], row["host"]) == ("e2b", "")
    wait_for(lambda: [one["state"] for one in of(cloud, product, run)] == ["paused"], "its sleep")

    said = json.loads(
        product.manage("follow-up", str(run), "--prompt", "cat one.txt ~/home.txt; echo two > two.txt", "--wait", "--json").stdout
    )

    assert said["runs"][0]["status"] == "succeeded"
    assert said["runs"][0]["backend"] == "e2b"
    assert product.text(run).endswith("one\nhere\n")
    assert {"one.txt", "two.txt"} <= product.files(run).keys()
    assert product.run(run)["generation"] == 1
    assert contiguous(product, run)
    assert len(of(cloud, product, run)) == 1


def test_streams_that_break_stall_and_split_lose_and_double_nothing(product: Product, cloud: Cloud) -> None:
    cloud.fault("split", bytes=7)
    cloud.fault("drop_stream", after=2_000, count=6)
    (run,) = product.submit(chatty(5, 40))
    assert product.ended(run, 120)["status"] == "succeeded"
    assert product.faults(run) == []
    hits = {fault["kind"]: fault["hits"] for fault in cloud.faults()}
    assert hits["split"] > 0
    assert hits.get("drop_stream", 6) > 0  # one that was used up is not there any more


def test_a_sandbox_that_vanishes_is_made_again_once_from_the_last_checkpoint(product: Product, cloud: Cloud) -> None:
    (run,) = product.submit("echo ready; sleep 600")
    wait_for(says(product, run, "ready"), "the script")
    cloud.vanish(of(cloud, product, run)[0]["id"])
    ended = product.settled(run, 60)
    assert ended["status"] == "interrupted"  # what a shell has begun is not begun again by itself
    assert "sandbox" in ended["error"].lower()


def test_one_that_vanishes_before_its_turn_begins_is_made_again(product: Product, cloud: Cloud) -> None:
    earlier = {"asynccode": product.installation}
    wait_for(lambda: {one["state"] for one in cloud.sandboxes(**earlier)} <= {"paused"}, "the sleep of those that would be asked first")
    cloud.fault("vanish", text="relay ask", count=1)
    (run,) = product.submit("echo ran")
    assert product.settled(run, 90)["status"] == "succeeded"
    assert product.text(run) == "ran\n"
    assert product.run(run)["generation"] == 2


def test_refusals_are_waited_for(product: Product, cloud: Cloud) -> None:
    cloud.fault("429", retry_after=1, count=1)
    cloud.fault("500", path="POST /v2/sandboxes", count=1)
    (run,) = product.submit("echo ran")
    assert product.settled(run, 90)["status"] == "succeeded"


def test_stop_reaches_the_sandbox(product: Product, cloud: Cloud) -> None:
    (run,) = product.submit("echo kept > kept.txt; echo ready; sleep 600")
    wait_for(says(product, run, "ready"), "the script")
    product.manage("cancel", str(run))
    assert product.ended(run, 10)["status"] == "canceled"
    assert product.files(run)["kept.txt"] == "kept\n"
    wait_for(lambda: [one["state"] for one in of(cloud, product, run)] == ["paused"], "its sleep")


def test_the_reaper_leaves_other_installations_alone(product: Product, cloud: Cloud) -> None:
    (run,) = product.submit("true")
    product.until(run, "succeeded")
    ours = of(cloud, product, run)[0]["id"]
    product.do("DELETE FROM tasks_sandbox WHERE run_id = %s", run)
    theirs = {"asynccode": "another", "asynccode_key": "another:1:1"}
    foreign = asyncio.run(AsyncSandbox.create(metadata=theirs, **cloud.options)).sandbox_id
    try:
        product.enqueue("reap")
        wait_for(lambda: ours not in [one["id"] for one in cloud.sandboxes()], "its end")
        assert foreign in [one["id"] for one in cloud.sandboxes()]
    finally:
        cloud.vanish(foreign)


def test_the_second_run_begins_with_what_the_setup_script_left(product: Product, cloud: Cloud) -> None:
    setup = "echo setting up; echo made > made.txt; mkdir -p ~/deps; echo cached > ~/deps/it\n"
    product.do("UPDATE tasks_repo SET setup_script = %s, prepares = true", setup)
    try:
        (first,) = product.submit("cat made.txt ~/deps/it")
        assert product.ended(first)["status"] == "succeeded"
        wait_for(lambda: product.rows("SELECT 1 FROM tasks_preparedenvironment WHERE status = 'ready'"), "the environment", 60)

        (second,) = product.submit("cat made.txt ~/deps/it")
        assert product.ended(second)["status"] == "succeeded"
    finally:
        product.do("UPDATE tasks_repo SET setup_script = '', prepares = false")

    assert product.text(first, step="setup") == "setting up\n"
    assert product.text(second, step="setup") == ""
    assert product.text(second) == product.text(first) == "made\ncached\n"
    assert product.files(second) == product.files(first)
    (environment,) = product.rows("SELECT * FROM tasks_preparedenvironment")
    assert (environment["backend"], environment["host"]) == ("e2b", "")
    assert of(cloud, product, second)[0]["template"] == environment["ref"]


def test_a_patch_is_checked_there_too(product: Product, cloud: Cloud) -> None:
    product.do("UPDATE tasks_repo SET check_command = 'echo looking; grep -qs one one.txt'")
    try:
        said = product.manage(
            "submit", "--repo", str(product.repo), "--agent", "shell", "--prompt", "echo one > one.txt", "--wait", "--json"
        ).stdout
    finally:
        product.do("UPDATE tasks_repo SET check_command = ''")

    (run,) = json.loads(said)["runs"]
    assert (run["backend"], run["check"]) == ("e2b", "fixed")  # which was waited for
    of_patch, of_base = product.rows("SELECT * FROM tasks_check ORDER BY patch_id NULLS LAST")
    assert [(row["backend"], row["status"], row["output"]) for row in (of_patch, of_base)] == [
        ("e2b", "passed", "looking\n"),
        ("e2b", "failed", "looking\n"),
    ]
    for check in (of_patch, of_base):
        assert [row["backend"] for row in product.sandboxes(check["run_id"])] == ["e2b"]
        wait_for(lambda check=check: of(cloud, product, check["run_id"]) == [], "the end of its sandbox")
