"""What /metrics counts of a real run, and what /readyz says when a service does not answer any more."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.spine.product import BRISK, Product, freeze, wait_for, wake

ENVIRONMENT = BRISK


def ready(product: Product) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{product.url}/readyz", timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def is_ready(product: Product) -> bool:
    return ready(product)[0] == 200


def figures(product: Product) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"{product.url}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_run_is_counted(product: Product) -> None:
    def difference(*name: str) -> float:
        return figures(product).get(name, 0.0) - before.get(name, 0.0)

    wait_for(lambda: figures(product).get(("asynccode_events_total",), 0), "the first run's events")  # at the follower's next beat
    before = figures(product)
    (run,) = product.submit("for n in 1 2 3; do echo $n; sleep 0.5; done; echo more > more.txt")
    assert product.ended(run)["status"] == "succeeded"
    wait_for(lambda: difference("asynccode_events_total") >= 3, "its events")
    assert difference("asynccode_turns_ended_total", "shell", "succeeded") == 1
    assert difference("asynccode_runs", "succeeded") == 1
    assert difference("asynccode_sandbox_start_seconds_count", "local", "made") == 1
    assert figures(product)["asynccode_follower_lag_seconds",] == 0
    assert {name[2] for name in figures(product) if name[0] == "asynccode_heartbeat_age_seconds"} >= {"follow", "gateway", "worker"}


def ill(product: Product) -> list[str]:
    """What the doctor calls a problem."""
    said = json.loads(product.manage("doctor", "--json", check=False).stdout)
    return [finding["check"] for finding in said if finding["state"] == "problem"]


def test_a_follower_that_hangs_is_named(product: Product) -> None:
    wait_for(lambda: is_ready(product), "all at work", 60, 0.2)
    assert ill(product) == []
    follower = product.service("follow")
    try:
        freeze(follower)
        wait_for(lambda: not is_ready(product), "the follower missed", 60, 0.2)
        _, told = ready(product)
        assert [name for name, check in told["checks"].items() if check["state"] == "problem"] == ["follow"], told
        assert "The follower of spine was last heard of" in told["checks"]["follow"]["sentence"]
        assert ill(product) == ["follow"]
    finally:
        wake(follower)
    wait_for(lambda: is_ready(product), "it is back", 60, 0.2)
