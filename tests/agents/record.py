"""Records what the pinned agents print: `scripts/record-golden`.

A product is started, and each agent gets a run of it for each scene, as a user would ask. What it printed is read from the
sandbox's journal, so it was started by its own adapter's Launch, and is what `Adapter.parse` is given. Ids, times and durations
are replaced by the same ones each time, so that a diff shows what has changed.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from agents.registry import ADAPTERS
from tests.installed import share
from tests.models.server import ModelServer
from tests.spine.person import Person
from tests.spine.product import Product, wait_for

GOLDEN = Path(__file__).parent / "golden"

# Each in a conversation of its own, but that `resume` goes on with that of `write`; `stopped` is stopped in its tool.
SCENES = {
    "write": "[[write hello.txt]] [[say It is written.]]",
    "resume": "[[fail]] [[say It has failed.]]",
    "steps": "[[several steps]] [[todo look around; act]] [[stream 5 0]] [[run echo acted]]",
    "status-401": "[[status 401]]",
    "status-404": "[[status 404]]",
    "credit": "[[credit]]",
    "context": "[[context]]",
    "rate-limit-then-ok": "[[status 429 then ok]] [[say Now it went well.]]",
    "cut-once": "[[cut]]",
    "stopped": "[[say It takes long.]] [[sleep-tool 600]]",
    "status-500": "[[status 500]]",
}


def main() -> int:
    agents = sys.argv[1:] or [name for name, adapter in ADAPTERS.items() if adapter.package]
    if unknown := set(agents) - set(ADAPTERS):
        sys.stderr.write(f"There is no agent {', '.join(sorted(unknown))}.\n")
        return 2
    with ModelServer() as model:
        product = Product(AGENT_SILENCE_S="60", AGENT_RETRY_S="3600", MAX_ACTIVE_RUNS="8", **model.environment)
        try:
            product.environment["ALLOW_PRIVATE_HOSTS"] += f",127.0.0.1:{model.port}"
            share(product.data, *(ADAPTERS[agent].package for agent in agents))
            product.start()
            person = Person(product)
            for agent in agents:
                record(person, agent)
            person.close()
        finally:
            product.close()
    return 0


def record(person: Person, agent: str) -> None:
    product = person.product
    (GOLDEN / agent).mkdir(parents=True, exist_ok=True)
    run = number = 0
    for name, prompt in SCENES.items():
        if name == "resume":
            person.follow_up(run, prompt)
            number = 2
        else:
            run, number = person.start(prompt, agent)[agent], 1
        if name == "stopped":
            wait_for(lambda run=run: "waiting" in "".join(lines(product, run, 1)), f"the tool of {agent}", 120)
            person.stop(run)
        wait_for(lambda run=run, number=number: is_over(product, run, number), f"the end of {name} with {agent}", 180)
        if product.run(run)["status"] == "queued":  # it would be tried again by itself, an hour later
            person.stop(run)
        text = "".join(f"{line}\n" for line in steady(lines(product, run, number)))
        (GOLDEN / agent / f"{name}.jsonl").write_text(text)
        sys.stdout.write(f"{agent}/{name}: {text.count(chr(10))} lines\n")


def is_over(product: Product, run: int, number: int) -> bool:
    return bool(product.rows("SELECT 1 FROM tasks_turn WHERE run_id = %s AND number = %s AND finished_at IS NOT NULL", run, number))


def lines(product: Product, run: int, number: int) -> list[str]:
    """What the agent printed in a turn."""
    return [
        record["line"]
        for record in product.journal(run)
        if record["kind"] == "out" and record.get("turn") == number and record.get("step") == "agent"
    ]


_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)"
_DURATION = r"[A-Za-z_]*(?:[Dd]uration|_ms|Ms|_seconds)[A-Za-z_]*"
_MOMENT = r"timestamp|start|end|created|start_time|end_time|endTime|startTime"


def steady(found: list[str]) -> list[str]:
    """The lines with ids numbered as they come, and no moment or duration."""
    seen: dict[str, dict[str, int]] = defaultdict(dict)

    def number(kind: str, value: str) -> int:
        return seen[kind].setdefault(value, len(seen[kind]) + 1)

    def prefixed(match: re.Match[str]) -> str:
        return f"{match[1]}{number(match[1], match[0]):06}"

    rules: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (_UUID, lambda match: f"00000000-0000-4000-8000-{number('uuid', match[0]):012}"),
        (r"\b(ses_|prt_|msg_|evt_|per_|que_)[0-9a-f]{12}[0-9A-Za-z]{14}\b", prefixed),
        (r"\b(msg_|toolu_|call_|rs_|fc_|resp_|chatcmpl-)\d{6}\b", prefixed),
        (_TIME, "2026-01-01T00:00:00.000Z"),
        (rf'("(?:{_MOMENT})": ?)1[67]\d{{11}}\b', r"\g<1>1767225600000"),
        (rf'("{_DURATION}": ?)\d+(?:\.\d+)?', r"\g<1>1"),
        (r"(wait time: )\d+(?:\.\d+)?", r"\g<1>1"),
        (r"act-\d+-\d+-[0-9a-f]{64}", "act-TOKEN"),
        (r"(?<=_)1[67]\d{11}(?=_)", lambda match: str(1767225600000 + number("moment", match[0]))),
    ]
    text = "\n".join(found)
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    steadied = text.split("\n") if text else []
    for line in steadied:
        if line.startswith("{"):
            json.loads(line)  # it is still what it was
    return steadied


if __name__ == "__main__":
    sys.exit(main())
