"""The commands of docs/user-guide.md for operators, as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.client.conftest import World
from tests.spine.product import GIT, SOURCE

CHANGE = "echo more >> a.txt; printf 'test:\\n\\t@echo tested\\n' > Makefile"


def test_the_commands_for_operators_work_as_they_stand(world: World, tmp_path: Path) -> None:
    guide = (SOURCE / "docs/user-guide.md").read_text()
    (block,) = re.findall(r"^```\n([^`]*manage\.py submit [^`]*)^```", guide, re.MULTILINE)
    submit, *others = block.replace("https://github.com/owner/name", f"{world.github}/alice/shop").splitlines()
    (tmp_path / "manage.py").symlink_to(SOURCE / "manage.py")  # Python looks for what it imports beside the file itself
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "change.sh").write_text(CHANGE)
    clone = tmp_path / "src/name"
    subprocess.run([*GIT, "clone", "-q", f"{world.github}/alice/shop", str(clone)], check=True)

    def say(command: str) -> str:
        environment = world.product.environment | {"HOME": str(tmp_path)}
        argv = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    said = say(submit)
    assert said.count("succeeded") == 3
    (run, *_) = re.findall(r"run (\d+)", said)
    said = "".join(say(re.sub(r"\bRUN\b", run, command)) for command in others)
    assert "more" in (clone / "a.txt").read_text()
    assert "Pull request #" in said
    assert "tested" in world.product.text(int(run))
    assert f"Run {run} was over already." in said
