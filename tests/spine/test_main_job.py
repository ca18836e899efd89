"""The main job on a repository with everything in it: from `submit` to patches that give exactly the tree they should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandboxes.inside._patch_lab import Lab
from tests.spine.product import SOURCE, Product, wait_for

ORDINARY = {
    "files of every kind": r"""
        printf 'uno\n' > README.md; rm src/util/deep/x.txt; mv bin data; chmod -x run.sh
        head -c 9999 /dev/urandom | tee data/more.bin > /dev/null
        cp data/more.bin data/same.bin; : > 'new empty'
        printf 'x' > $'tab\tnew'; printf 'x\n' > $'new\nline too'; printf 'y\n' > $'latin\xe8.txt'
        printf 'z\n' > 'quo"te.txt'; printf 'é\n' > 'back\slash.txt'; rm ./-dash
        ln -sf /etc/passwd outside; rm link; mkdir link; echo in > link/file
        printf 'a\r\nc\r\n' > auto/crlf.txt; printf 'three\r\n' >> crlf.txt; printf 'added' >> nonl.txt; printf 'ignored\n' > x.log
        printf 'diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n' > another.patch
    """,
    "an agent that uses git": r"""
        git config user.name Agent; git config user.email agent@example.invalid
        printf 'committed\n' > one; git add one; git commit -q -m one; printf 'stashed\n' >> README.md; git stash -q
        git checkout -q -b elsewhere; printf 'two\n' > two; git add two; git commit -q -m two; git reset -q --soft HEAD~1
        printf 'hidden\n' >> src/app.py; git update-index --assume-unchanged src/app.py; git update-index --no-assume-unchanged src/app.py
    """,
    "nothing at all": "true",
}


@pytest.fixture(scope="module")
def lab(product: Product) -> Lab:
    root = product.folder / "lab"
    root.mkdir()
    return Lab(root)


def submit(product: Product, lab: Lab, script: str, *, attempts: int) -> dict[str, object]:
    words = ["submit", "--repo", str(lab.source), "--agent", "shell", "--attempts", str(attempts), "--prompt", "-", "--wait", "--json"]
    argv = [sys.executable, str(SOURCE / "manage.py"), *words]
    done = subprocess.run(argv, env=product.environment, input=script, capture_output=True, text=True, timeout=120, cwd=SOURCE)
    assert done.returncode == 0, done.stdout + done.stderr + product.tail()
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def patch(product: Product, run_id: int) -> bytes:
    argv = [sys.executable, str(SOURCE / "manage.py"), "patch", str(run_id)]
    return subprocess.run(argv, env=product.environment, capture_output=True, check=True, timeout=60, cwd=SOURCE).stdout


@pytest.mark.parametrize("name", ORDINARY)
def test_three_runs_give_the_tree_that_git_add_gives(product: Product, lab: Lab, name: str) -> None:
    # Random content differs from run to run, so each attempt's is taken from a file that all see.
    seed = "".join(f"{byte:02x}" for byte in os.urandom(64))
    script = ORDINARY[name].replace("head -c 9999 /dev/urandom", f"yes {seed} | head -c 9999")
    task = submit(product, lab, script, attempts=3)
    assert task["base_commit"] == lab.base
    runs: list[dict[str, object]] = task["runs"]  # type: ignore[assignment]
    assert [run["status"] for run in runs] == ["succeeded"] * 3
    assert len({run["patch_sha256"] for run in runs}) == 1
    bench = lab.bench()
    content = patch(product, int(str(runs[0]["id"])))
    assert bench.applied(content) == bench.plain(script)
    assert (runs[0]["files_changed"] == 0) == (content == b"") == (name == "nothing at all")


def test_what_an_agents_own_git_cannot_hide_or_break(product: Product, lab: Lab) -> None:
    """Where the definition differs from `git add -A` in the agent's own checkout."""
    script = r"""
        printf 'seen\n' >> src/app.py; git update-index --assume-unchanged src/app.py
        git init -q nested; (cd nested; printf 'n\n' > file; git add file; git -c user.name=a -c user.email=a@b commit -q -m n)
        rm -rf vendor/sub; printf 'junk' > .git/index; head -c 11000000 /dev/zero > big.bin
    """
    task = submit(product, lab, script, attempts=1)
    run_id = task["runs"][0]["id"]  # type: ignore[index]
    bench = lab.bench()
    plain = r"printf 'seen\n' >> src/app.py; mkdir nested; printf 'n\n' > nested/file"
    assert bench.applied(patch(product, run_id)) == bench.plain(plain)
    left_out = product.rows("SELECT left_out FROM tasks_patch WHERE run_id = %s AND kind = 'final'", run_id)[0]["left_out"]
    assert [(entry["path"], entry["reason"]) for entry in left_out] == [("big.bin", "size")]


def test_up_exec_is_a_whole_installation_in_one_line() -> None:
    """Standard output belongs to the command, its exit code is ours, and nothing is left running."""
    product = Product()
    try:
        words = f"{sys.executable} {SOURCE / 'manage.py'} submit --repo {product.repo} --agent shell --attempts 3 --wait --json --prompt"
        for script, code in (("echo hello > new", 0), ("exit 3", 1)):
            argv = [sys.executable, str(SOURCE / "manage.py"), "up", "--exec", f"{words} '{script}'"]
            done = subprocess.run(argv, env=product.environment, capture_output=True, text=True, timeout=120, cwd=SOURCE)
            assert done.returncode == code, done.stderr
            statuses = [run["status"] for run in json.loads(done.stdout)["runs"]]
            assert statuses == (["succeeded"] * 3 if code == 0 else ["failed"] * 3)
            wait_for(lambda: not product.pids(), "the end of every process", 10)
    finally:
        product.close()


@pytest.fixture
def huge(product: Product) -> Lab:
    root = product.folder / "huge"
    root.mkdir()
    script = """
        for d in $(seq 1000); do mkdir -p d$d; for f in $(seq 100); do echo "$d $f" > d$d/f$f; done; done
        git add -A; git commit -qm many
    """
    return Lab(root, script)


@pytest.mark.long
def test_a_hundred_thousand_files(product: Product, huge: Lab) -> None:
    script = "echo changed > d500/f50; rm d1/f1; for f in $(seq 2000); do echo new > d7/new$f; done"
    task = submit(product, huge, script, attempts=1)
    run = task["runs"][0]  # type: ignore[index]
    assert (run["status"], run["files_changed"]) == ("succeeded", 2002)
    bench = huge.bench()
    assert bench.applied(patch(product, run["id"])) == bench.plain(script)


def test_the_remote_is_the_true_one_and_holds_no_credentials(product: Product, lab: Lab) -> None:
    task = submit(product, lab, "git remote -v; git config --list --local; git branch --show-current", attempts=1)
    run_id = task["runs"][0]["id"]  # type: ignore[index]
    text = product.text(run_id)
    assert f"origin\t{lab.source} (fetch)" in text
    assert f"asynccode/{task['task']}-" in text
    assert Path(str(product.data)).name not in text.replace(str(lab.source), "")
