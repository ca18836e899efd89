"""A run is gone on with on another machine, by the command of its page: the real agent sends what was said in the sandbox."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from agents.packages import PACKAGES
from tests.installed import installed
from tests.models.server import KEY, ModelServer
from tests.spine.person import Person
from tests.spine.product import wait_for

# The programs as a person has them, but for a terminal: each is given its next prompt at once. Arguments: program, server, prompt.
ALONE = {
    "claude": 'exec {0} "$@" -p {2}',
    "codex": "exec {0} exec resume --skip-git-repo-check --disable plugins --disable apps -c analytics.enabled=false"
    " -c check_for_update_on_startup=false -c openai_base_url='\"'{1}/v1'\"' \"$2\" {2}",
}


@pytest.mark.parametrize("agent", ALONE)
def test_the_agent_goes_on_elsewhere_in_the_same_conversation(person: Person, model: ModelServer, tmp_path: Path, agent: str) -> None:
    product, first, second = person.product, f"zebra-{agent}", f"giraffe-{agent}"
    run = person.start(f"[[run echo {first} > one.txt]] [[say Remember {first}.]]", agent)[agent]
    assert product.ended(run, 180)["status"] == "succeeded"
    wait_for(lambda: product.rows("SELECT 1 FROM tasks_conversation WHERE run_id = %s", run), "the conversation", 60)

    home, clone, programs = tmp_path / "home", tmp_path / "my clone", tmp_path / "bin"
    (home / "Downloads").mkdir(parents=True)
    programs.mkdir()
    for address, name in ((f"/runs/{run}/patch", f"run-{run}.patch"), (f"/runs/{run}/conversation", f"run-{run}.jsonl")):
        (home / "Downloads" / name).write_text(person.get(f"{address}?download"))
    package = PACKAGES[agent]
    program = installed(agent) / package.name / package.version / "bin" / package.program
    words = [shlex.quote(word) for word in (str(program), model.url, f"[[say Seen {second}.]]")]
    (programs / agent).write_text(f"#!/bin/sh\n{ALONE[agent].format(*words)}\n")
    (programs / agent).chmod(0o755)
    subprocess.run(["git", "clone", "-q", str(product.repo), str(clone)], check=True)

    found = re.search(r'id="go-on"\s+readonly\s+value="([^"]*)"', person.get(f"/runs/{run}/pull-request"))
    assert found
    keys = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": KEY, "CODEX_API_KEY": KEY}
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
    done = subprocess.run(
        ["sh", "-c", html.unescape(found[1])],
        cwd=clone,
        env={"HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", **keys, **quiet},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Seen {second}." in done.stdout
    assert (clone / "one.txt").read_text() == f"{first}\n"
    asked = [json.dumps(seen.body) for seen in model.asked(second) if seen.status == 200]
    assert any(f"echo {first} > one.txt" in body and f"Remember {first}." in body for body in asked)
