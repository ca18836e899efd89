"""What we add to a run: 20 runs of a minute's script through the product, against the same in plain bwrap.

- wall_ratio: from the POST to the last final state, over the time `xargs -P 20` takes for clone, bwrap and script.
- cpu_s_per_run: CPU of our processes a run: the services' from the POST to the last final state, idling included, and
  the sandboxes' own (bubblewrap, supervisor, checkout, patches); the script's own is taken off as bash's `times` tells it.
- first_instruction_ms_p50: from the POST of one run to the script's first instruction, the machine otherwise idle;
  bare_first_instruction_ms_p50: the same from the start of `git clone` in the plain case.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from bench.product import Product, adopt_orphans, started
from bench.report import Report
from sandboxes.local import accounts, bwrap

RUNS = 20
SINGLES = 11
FINAL = ("succeeded", "failed", "errored", "canceled", "interrupted")

SCRIPT = """echo "$EPOCHREALTIME" > began
for i in $(seq {lines}); do echo "line $i of the log"; sleep 0.1; done
times > used
"""
SHORT = 'echo "$EPOCHREALTIME" > began\n'


def run(*, seconds: int = 60) -> Report:
    adopt_orphans()
    with started(MAX_ACTIVE_RUNS="1000", MAX_ACTIVE_RUNS_PER_USER="1000") as product:
        source = product.data.parent / "repo"
        _make_repository(source)
        script = SCRIPT.format(lines=seconds * 10)
        product.manage("submit", "--repo", str(source), "--agent", "shell", "--prompt", "true", "--wait")  # the mirror is there
        first = _first_instructions(product, source)
        wall, cpu = _together(product, source, script)
        bare = Bare(product, source)
        bare_first = statistics.median(bare.first_instruction(number) for number in range(SINGLES))
        bare_wall = bare.together(script)
    figures = {
        "wall_ratio": wall / bare_wall,
        "wall_s": wall,
        "bare_wall_s": bare_wall,
        "cpu_s_per_run": cpu / RUNS,
        "first_instruction_ms_p50": first,
        "bare_first_instruction_ms_p50": bare_first,
    }
    goals = {
        "wall_ratio": ["<=", 1.08],
        "cpu_s_per_run": ["<=", 0.35],
        "first_instruction_ms_p50": ["<=", round(bare_first + 200, 1)],
    }
    return Report("overhead", {key: round(value, 3) for key, value in figures.items()}, goals)


def _make_repository(path: Path) -> None:
    path.mkdir()
    for number in range(200):
        file = path / f"d{number % 10}" / f"f{number}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{number}\n" * 50)
    git = ["git", "-C", str(path), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "base"], check=True)


def _wait_for_all(product: Product) -> float:
    """CPU of the sandboxes that ended meanwhile."""
    seconds = 0.0
    while product.query("SELECT 1 FROM tasks_run WHERE NOT status = ANY(%s) LIMIT 1", list(FINAL)):
        seconds += product.reap()
        time.sleep(0.25)
    return seconds


def _added(product: Product, run_id: int, name: str) -> str:
    """The content of a text file that the run's patch adds."""
    content = bytes(product.query("SELECT content FROM tasks_patch WHERE run_id = %s AND kind = 'final'", run_id)[0][0]).decode()
    block = content.split(f"diff --git a/{name} b/{name}\n", 1)[1].split("\ndiff --git ", 1)[0]
    return "\n".join(line[1:] for line in block.splitlines() if line.startswith("+") and not line.startswith("+++"))


def _first_instructions(product: Product, source: Path) -> float:
    """Median milliseconds from the POST to the first instruction."""
    found = []
    for _ in range(SINGLES):
        posted = product.submit(product.form(), source=source, prompt=SHORT, attempts=1)
        _wait_for_all(product)
        run_id = product.query("SELECT max(id) FROM tasks_run")[0][0]
        found.append((float(_added(product, run_id, "began")) - posted) * 1000)
        product.reap()
    return statistics.median(found)


def _together(product: Product, source: Path, script: str) -> tuple[float, float]:
    """Seconds from the POST to the last final state, and seconds of CPU of ours."""
    form = product.form()
    product.reap()
    before = product.services_cpu()
    posted = product.submit(form, source=source, prompt=script, attempts=RUNS)
    cpu = _wait_for_all(product)
    cpu += product.services_cpu() - before
    deadline = time.monotonic() + 10  # sandboxes are put to sleep after the final state
    while product.query("SELECT 1 FROM tasks_sandbox WHERE status = 'live' LIMIT 1") and time.monotonic() < deadline:
        time.sleep(0.1)
    cpu += product.reap()
    rows = product.query("SELECT id, status FROM tasks_run WHERE task_id = (SELECT max(id) FROM tasks_task)")
    assert [status for _, status in rows] == ["succeeded"] * RUNS, rows
    last = product.query("SELECT extract(epoch FROM max(finished_at)) FROM tasks_run")[0][0]
    return float(last) - posted, cpu - sum(_used(_added(product, run_id, "used")) for run_id, _ in rows)


def _used(times: str) -> float:
    """Seconds of bash's `times`: user and system, of the shell and of its children."""
    return sum(int(minutes) * 60 + float(seconds) for minutes, seconds in re.findall(r"(\d+)m([\d.]+)s", times))


class Bare:
    """The same without us: a local clone, plain bwrap, the script; as the account that our sandboxes have."""

    def __init__(self, product: Product, source: Path) -> None:
        self.source = source
        self.program = bwrap.install(product.data / "runtime")
        self.account = accounts.find(accounts.SANDBOX_ACCOUNT) if os.geteuid() == 0 else None
        self.folder = product.data.parent / "bare"
        self.folder.mkdir()
        if self.account:
            os.chown(self.folder, self.account.uid, self.account.gid)

    def _one(self, script: Path) -> Path:
        """A program that does one run in the folder named by its argument."""
        program = script.with_suffix(".one")
        program.write_text(
            "#!/bin/bash\nset -e\n"
            f"git -c safe.directory='*' clone -q --shared {self.source} {self.folder}/$1\n"
            f"exec {self.program} --unshare-all --unshare-user --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib"
            " --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp"
            f" --bind {self.folder}/$1 /workspace --ro-bind {script} /script --chdir /workspace /bin/bash /script > {self.folder}/$1.log\n"
        )
        program.chmod(0o755)
        return program

    def _write(self, name: str, text: str) -> Path:
        script = self.source.parent / name
        script.write_text(text)
        return script

    def _run(self, argv: list[str], stdin: str = "") -> None:
        # git takes safe.directory for a source of somebody else only from a file.
        config = self._write("gitconfig", "[safe]\n\tdirectory = *\n")
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": str(config)}
        subprocess.run(argv, input=stdin.encode(), env=env, cwd="/", check=True, **accounts.run_as(self.account))

    def first_instruction(self, number: int) -> float:
        """Milliseconds from before the clone to the script's first instruction."""
        program = self._one(self._write("short.sh", SHORT))
        began = time.time()
        self._run([str(program), f"first{number}"])
        return (float((self.folder / f"first{number}" / "began").read_text()) - began) * 1000

    def together(self, script: str) -> float:
        program = self._one(self._write("script.sh", script))
        began = time.time()
        self._run(["xargs", "-P", str(RUNS), "-n", "1", str(program)], "\n".join(f"run{number}" for number in range(RUNS)))
        seconds = time.time() - began
        shutil.rmtree(self.folder)
        return seconds
