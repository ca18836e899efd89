"""What a page of differences costs: 50 files of a real repository, 19,300 changed lines in all.

- first_screen_cold_ms: the list of all files, and the table of those that come with the page, with nothing in the cache and
  BUDGET_MS for highlighting. The patch's tree is there, and the process has shown another diff before.
- first_screen_warm_ms: the same again.
- all_cold_ms, all_mb: the tables of all files, highlighted to the end, and what they weigh.
- What it costs a browser: bench/diff_browser.py.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.cache import cache
from django.test import override_settings

from asynccode.embedded import Embedded
from bench import diff_browser
from bench.diff_sample import CHANGED, FILES, texts, write
from bench.report import Report
from tasks.git import mirrors, trees
from tasks.git.sources import parse_source
from tasks.review import diffs, render

TRIES = 9
BUDGET_MS = 50


def _made(home: Path) -> tuple[Path, str, str]:
    """A mirror, its base commit and the tree of a patch."""
    source, mirror = home / "repo", home / "mirrors" / "1.git"
    old, new = texts()
    git = ["git", "-C", str(source), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(source)], check=True)
    write(source, old)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "base"], check=True)
    mirrors.ensure(mirror, parse_source(str(source), allow_local=True, roots=[home]), timeout=60)
    write(source, new)
    patch = subprocess.run([*git, "diff", "--binary", "--full-index"], check=True, capture_output=True).stdout
    commit = mirrors.resolve(mirror, "main")
    return mirror, commit, trees.tree_of(mirror, base_commit=commit, patch=patch)


def _median_ms(act: Callable[[], Any], before: Callable[[], Any]) -> float:
    found = []
    for _ in range(TRIES):
        before()
        began = time.perf_counter()
        act()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def run(**_: Any) -> Report:
    home = Path(tempfile.mkdtemp(prefix="asynccode-bench-"))
    home.chmod(0o711)
    services = Embedded(home / "data", home / "sockets", with_postgres=False)
    services.start()
    backend = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": services.environment()["REDIS_URL"]}
    try:
        with override_settings(CACHES={"default": backend}):
            figures = _measured(*_made(home))
    finally:
        services.stop()
        shutil.rmtree(home)
    figures |= diff_browser.measured()
    goals = {"first_screen_cold_ms": ["<=", 150], "first_screen_warm_ms": ["<=", 30], **diff_browser.GOALS}
    return Report("diff", {key: round(value, 3) for key, value in figures.items()}, goals)


def _measured(mirror: Path, old: str, new: str) -> dict[str, float]:
    def first_screen() -> None:
        render.render(mirror, diffs.first_screen(diffs.files(mirror, old, new)), budget_ms=BUDGET_MS)

    files = diffs.files(mirror, old, new)
    assert sum(file.change.additions + file.change.deletions for file in files) == FILES * CHANGED
    began = time.perf_counter()
    tables = render.render(mirror, files)
    all_cold = time.perf_counter() - began
    cold = _median_ms(first_screen, before=cache.clear)
    render.render(mirror, diffs.first_screen(files))
    warm = _median_ms(first_screen, before=lambda: None)
    return {
        "first_screen_cold_ms": cold,
        "first_screen_warm_ms": warm,
        "all_cold_ms": all_cold * 1000,
        "all_mb": sum(len(table.html.encode()) for table in tables) / 1e6,
    }
