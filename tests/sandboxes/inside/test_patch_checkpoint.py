"""Checkpoints are made while agents are alive: whatever they do meanwhile, there is a patch and it applies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.sandboxes.inside._patch_lab import Bench, Lab, make

CHURN = """
import os, random, shutil, sys
names = ["a", "b", "c", "README.md", "run.sh", "src/app.py", "src/new", "n.log", "deep/er/x", "swap", "swap/in", ".gitignore", "vendor/x"]
random.seed(int(sys.argv[1]))
while True:
    name = random.choice(names)
    try:
        folder = os.path.dirname(name)
        if folder:
            os.makedirs(folder, exist_ok=True)
        what = random.randrange(7)
        if what == 0: os.unlink(name)
        elif what == 1: shutil.rmtree(name)
        elif what == 2: os.mkdir(name)
        elif what == 3: os.symlink(random.choice(["/etc/hostname", "src", ".."]), name)
        elif what == 4: os.truncate(name, random.randrange(100000))
        elif what == 5: os.rename(name, random.choice(names))
        else: open(name, "wb").write(b"x" * random.randrange(200000))
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return lab.bench().checkout()


@pytest.fixture
def churn(bench: Bench) -> Iterator[None]:
    """Processes that change files as fast as they can."""
    processes = [subprocess.Popen(["python3", "-c", CHURN, str(seed)], cwd=bench.workspace) for seed in range(2)]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("churn")
def test_checkpoint_amid_changes_gives_a_patch_that_applies(bench: Bench) -> None:
    trusted, untrusted = bench.maker(), bench.maker(is_trusting=False)
    for maker in (trusted, untrusted) * 8:
        told, patch = make(maker.checkpoint)
        assert bench.applied(patch) == told["tree"]
    assert [path.name for path in bench.scratch.iterdir()] == [f"hint-{bench.lab.base}"]


def test_final_after_checkpoints_is_as_if_there_had_been_none(bench: Bench) -> None:
    maker = bench.maker()
    bench.run("echo 1 > a; echo 2 > b; rm README.md")
    make(maker.checkpoint)
    bench.run("rm a; echo 3 > b; echo again > README.md; echo c > c.log")
    make(maker.checkpoint)
    bench.run("chmod +x b")
    told, patch = make(maker.final)
    assert told["tree"] == bench.plain("echo 3 > b; chmod +x b; echo again > README.md") == bench.applied(patch)


def test_checkpoints_that_are_killed_leave_nothing_behind(bench: Bench) -> None:
    maker = bench.maker()
    bench.run("seq 1000 | split -l 1 -a 4")
    pid = os.fork()
    if not pid:
        os.setsid()
        make(maker.checkpoint)
        os._exit(0)
    while not any((room / "git").is_dir() for room in bench.scratch.iterdir()):
        time.sleep(0.001)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 20
    while list(bench.scratch.iterdir()) and time.monotonic() < deadline:  # its git may take a moment to die
        make(maker.final)
    assert list(bench.scratch.iterdir()) == []
