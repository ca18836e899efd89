from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from sandboxes.inside import limits

ROOT = Path(__file__).parents[3]


def run_python(script: str) -> str:
    """In a process of its own: what is tested here changes the process that does it."""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_call_gives_what_the_function_returned_or_why_there_is_nothing() -> None:
    script = """
import os, signal
from sandboxes.inside.loop import Loop
from sandboxes.inside.processes import Call

def fail(): raise RuntimeError("It failed.")
def die(): os.kill(os.getpid(), signal.SIGKILL)

async def main():
    for function in (lambda: {"big": "x" * 1_000_000}, fail, die, lambda: {"fds": sorted(map(int, os.listdir("/proc/self/fd")))}):
        print(str(await Call(loop, function).result)[:60])
    loop.stop()

loop = Loop()
loop.take_children()
loop.task(main())
loop.run()
"""
    first, second, third, fourth = run_python(script).splitlines()
    assert first.startswith("{'big': 'xxx")
    assert (second, third) == ("{'error': 'It failed.'}", "{'error': 'It was killed before it was done.'}")
    assert len(fourth.split(",")) == 5  # 0, 1, 2, the pipe for the answer, and that of listdir


def test_a_call_that_cannot_be_started_says_so() -> None:
    script = """
import os
from sandboxes.inside import processes
from sandboxes.inside.loop import Loop

def refuse(): raise BlockingIOError(11, "Resource temporarily unavailable")

async def main():
    os.fork = refuse  # what a full pid cgroup makes of it
    print(await processes.Call(loop, dict).result)
    loop.stop()

loop = Loop()
loop.task(main())
loop.run()
"""
    assert run_python(script) == "{'error': 'No process could be started: Resource temporarily unavailable.'}\n"


def test_disk_use_counts_allocated_blocks_and_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(os.urandom(1_000_000))
    os.link(tmp_path / "folder" / "file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/usr")
    with open(tmp_path / "sparse", "wb") as sparse:
        sparse.truncate(1 << 40)
    used = limits.disk_used([str(tmp_path), "/missing"], 10)
    assert 1_000_000 <= used < 1_200_000


def test_memory_of_processes_that_have_gone_is_none() -> None:
    assert limits.memory_used([2**22 - 1], 1) == 0
    assert limits.memory_used([os.getpid()], 1 << 40) >= limits.memory_used([os.getpid()], 1) > 1_000_000


def test_a_limit_above_the_hard_one_is_the_hard_one() -> None:
    script = """
import resource
from sandboxes.inside.limits import Limits
resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20))
Limits({"file_mb": 100}).impose()
print(resource.getrlimit(resource.RLIMIT_FSIZE)[0] >> 20, resource.getrlimit(resource.RLIMIT_CORE))
"""
    assert run_python(script) == "5 (0, 0)\n"
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0


def test_limits_are_imposed_again_in_a_child() -> None:
    script = """
import resource
from sandboxes.inside.limits import Limits
limits = Limits({"open_files": 64})
limits.impose()
limits.impose()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert run_python(script) == "(64, 64)\n"
