"""The way out of a sandbox: what the repository's policy allows, through the gateway, every attempt an event of the run."""

from __future__ import annotations

import signal
from typing import Any

from tests.spine.product import Product, send, wait_for


def attempts(product: Product, run_id: int) -> list[dict[str, Any]]:
    logs = (event["data"] for event in product.events(run_id) if event["kind"] == "log")
    return [data["attempt"] for data in logs if data["stream"] == "network"]


def ask(url: str) -> str:
    """A line of python that prints the status of a request which follows the proxy settings of the environment."""
    return (
        'NO_PROXY= no_proxy= python3 -c "'
        "import sys, urllib.error, urllib.request as r\n"
        f"try: print(r.urlopen('{url}', timeout=20).status)\n"
        "except urllib.error.HTTPError as e: print(e.code, e.read().decode())\n"
        '"\n'
    )


def test_what_is_allowed_passes_and_what_is_not_is_refused_with_a_sentence(product: Product) -> None:
    allowed, refused = f"http://127.0.0.1:{product.witness.port}/hello", "http://example.org/"
    (run_id,) = product.submit(ask(allowed) + ask(refused))
    assert product.ended(run_id)["status"] == "succeeded"
    first, second = product.text(run_id).splitlines()[:2]
    assert first == "200"
    assert product.witness.count("hello") == 1
    assert second.startswith("403 asynccode: example.org is not on this repository's network allowlist")
    wait_for(lambda: len(attempts(product, run_id)) == 2, "both attempts recorded", 15)
    told = {attempt["host"]: attempt for attempt in attempts(product, run_id)}
    assert (told["127.0.0.1"]["is_allowed"], told["127.0.0.1"]["method"]) == (True, "GET")
    assert (told["example.org"]["is_allowed"], "allowlist" in told["example.org"]["reason"]) == (False, True)


def test_a_gateway_that_was_killed_is_replaced_and_the_run_goes_on(product: Product) -> None:
    url = f"http://127.0.0.1:{product.witness.port}/after"
    before = product.service("gateway")
    (run_id,) = product.submit("echo ready; until [ -e go ]; do sleep 0.1; [ $((++i)) -gt 20 ] && touch go; done\n" + ask(url))
    wait_for(lambda: "ready" in product.text(run_id), "the script at work")
    send([before], signal.SIGKILL)
    assert product.ended(run_id)["status"] == "succeeded"
    assert product.text(run_id).splitlines() == ["ready", "200"]
    assert product.service("gateway") != before


def test_with_no_network_nothing_is_reached(product: Product) -> None:
    product.do("UPDATE tasks_repo SET network_preset = 'none', network_hosts = '[]'")
    try:
        (run_id,) = product.submit(ask(f"http://127.0.0.1:{product.witness.port}/never"))
        product.ended(run_id)
        assert product.text(run_id).startswith("403 ")
        assert product.witness.count("never") == 0
    finally:
        product.do("UPDATE tasks_repo SET network_preset = 'registries', network_hosts = %s", f'["127.0.0.1:{product.witness.port}"]')
