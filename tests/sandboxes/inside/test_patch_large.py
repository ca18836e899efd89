"""A hundred thousand files: the patch is exact, and quick where the checkout is trusted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.sandboxes.inside._patch_lab import Lab, git, make

FILES = 100_000
BASE = f"""
for i in $(seq 0 99); do mkdir -p d$i/e; done
seq {FILES} | awk '{{ f = "d" ($1 % 100) "/e/f" $1; print "line " $1 > f; close(f) }}'
git add -A; git commit -q -m base
"""
pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # on a busy machine the files alone take minutes


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), BASE)


def test_one_edit_among_a_hundred_thousand_files(lab: Lab, record_property) -> None:
    bench = lab.bench().checkout()
    trusted, untrusted = bench.maker(), bench.maker(is_trusting=False)
    bench.run("echo more >> d7/e/f7")
    seconds = {}
    results = []
    for name, method in (("trusted", trusted.final), ("checkpoint", trusted.checkpoint), ("untrusted", untrusted.final)):
        started = time.monotonic()
        results.append(make(method))
        seconds[name] = time.monotonic() - started
        record_property(f"{name}_s", round(seconds[name], 2))
    assert results[0] == results[1] == results[2]
    assert results[0][1].count(b"diff --git") == 1
    assert seconds["trusted"] < 5
    assert seconds["untrusted"] < 45


def test_a_hundred_thousand_new_files(tmp_path: Path) -> None:
    lab = Lab(tmp_path, "echo x > x; git add -A; git commit -q -m base")
    bench = lab.bench().checkout()
    maker = bench.maker()
    script = BASE.partition("git add")[0]
    bench.run(script)
    told, patch = make(maker.final)
    assert told["left_out"] == []
    assert patch.count(b"diff --git") == FILES
    assert told["tree"] == bench.plain(script)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-n", str(lab.source), str(clone))
    git(clone, "read-tree", "HEAD")
    git(clone, "apply", "--cached", "-", stdin=patch)
    assert git(clone, "write-tree") == told["tree"]
