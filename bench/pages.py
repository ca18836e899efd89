"""What pages cost with two years of work behind them: 100,000 tasks, 300,000 runs, 3,000,000 events, really there.

They are inserted by COPY into a throwaway PostgreSQL and asked for through the whole stack of middlewares, views and templates, as
an operator who has half of all tasks. The same in a world of SMALL tasks shows what grows.

- worst_ms, worst_queries: the median time of the slowest page, and what the page that asks most asks of the database;
  worst_ms_small: the slowest page of the small world.
- PAGE_ms, PAGE_ms_small, PAGE_queries: of each page, fragment and socket.
- reconcile_ms, dispatch_ms: what is done every 15 s, and whenever something may start. count_statistics_ms, and of everybody: what
  it takes to count what the statistics of all time show; pages show what was kept of that (`review/statistics.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from asynccode.embedded import Embedded
from bench.product import ROOT
from bench.report import Report

SMALL = 1000


def run(*, tasks: int = 100_000, tries: int = 9, **_: Any) -> Report:
    small = _visited(min(SMALL, tasks), tries)
    large = _visited(tasks, tries) if tasks > SMALL else small
    slowest = max(large["ms"], key=large["ms"].__getitem__)
    figures: dict[str, float] = {
        "tasks": large["tasks"],
        "runs": large["runs"],
        "events": large["events"],
        "insert_s": large["insert_s"],
        "worst_ms": large["ms"][slowest],
        "worst_ms_small": small["ms"][slowest],
        "worst_queries": max(large["queries"].values()),
    }
    for name, ms in large["ms"].items():
        figures |= {f"{name}_ms": ms, f"{name}_ms_small": small["ms"][name], f"{name}_queries": large["queries"][name]}
    for name, ms in large["periodic"].items():
        figures |= {f"{name}_ms": ms, f"{name}_ms_small": small["periodic"][name]}
    goals = {"worst_ms": ["<=", 60], "worst_queries": ["<=", 12]}
    return Report("pages", {key: round(value, 3) for key, value in figures.items()}, goals)


def _visited(tasks: int, tries: int) -> dict[str, Any]:
    """What `bench.visits` says of a world of so many tasks."""
    home = Path(tempfile.mkdtemp(prefix="asynccode-bench-"))
    home.chmod(0o711)
    services = Embedded(home / "data", home / "sockets", is_durable=False)
    try:
        services.start()
        env = os.environ | {"ASYNCCODE_DATA": str(home / "data"), "DJANGO_SETTINGS_MODULE": "asynccode.settings"}
        argv = [sys.executable, "-m", "bench.visits", str(tasks), str(home), str(tries)]
        done = subprocess.run(argv, env=env | services.environment(), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    finally:
        services.stop()
        shutil.rmtree(home, ignore_errors=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
