"""A repository's check command on a finished patch: in a fresh sandbox, from the base commit, known to have failed before."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.spine.product import BRISK, GIT, Product, wait_for

ENVIRONMENT = BRISK
CHECK = 'cat made.txt; test -e ~/planted && echo spoiled; echo junk > junk.txt; printf "\\e[32mtests\\e[m\\n"; grep -q right answer.txt'


def checks(product: Product, run: int) -> list[dict[str, Any]]:
    """Of the run's newest patch and of its base."""
    return product.rows(
        "SELECT c.* FROM tasks_check c JOIN tasks_check k ON c.id IN (k.id, k.base_id) JOIN tasks_patch p ON p.id = k.patch_id"
        " JOIN tasks_turn t ON t.id = p.turn_id WHERE p.run_id = %s AND t.number = (SELECT max(number) FROM tasks_turn WHERE run_id = %s)"
        " ORDER BY c.patch_id NULLS LAST",
        run,
        run,
    )


def over(product: Product, run: int) -> list[tuple[str, int | None]]:
    """How they came out, once they are over."""

    def are_over() -> bool:
        found = checks(product, run)
        return len(found) == 2 and all(row["status"] != "under_way" for row in found)

    try:
        wait_for(are_over, "the checks", 60, 0.05)
    except AssertionError as failure:
        failure.add_note(f"{checks(product, run)}\n{product.tail()}")
        raise
    return [(row["status"], row["exit_code"]) for row in checks(product, run)]


@pytest.mark.parametrize("setup", ["", "echo made > made.txt; echo set up > answer.txt"], ids=["plain", "with a setup script"])
def test_a_patch_that_mends_what_was_failing(product: Product, setup: str) -> None:
    folder = product.folder / f"answers-{bool(setup)}"
    folder.mkdir()
    (folder / "answer.txt").write_text("wrong\n")
    (folder / "made.txt").write_text("")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        subprocess.run([*GIT, *words], cwd=folder, check=True)
    (first,) = product.submit("true", repo=folder)
    product.until(first, "succeeded")
    product.do("UPDATE tasks_repo SET check_command = %s, setup_script = %s, prepares = false WHERE source = %s", CHECK, setup, str(folder))

    (run,) = product.submit("touch ~/planted; echo right > answer.txt", repo=folder)
    product.until(run, "succeeded")

    assert over(product, run) == [("passed", 0), ("failed", 1)]
    on_patch, on_base = checks(product, run)
    said = ("made\n" if setup else "") + "\x1b[32mtests\x1b[m\n"
    assert (on_patch["output"], on_base["output"]) == (said, said)
    assert product.patch(on_patch["run_id"]) is None
    wait_for(lambda: [row["status"] for row in product.sandboxes(on_patch["run_id"])] == ["destroyed"], "the end of its sandbox")

    follow_up = "echo wrong again > answer.txt; echo x > new.txt"
    said = product.manage("follow-up", str(run), "--prompt", follow_up, "--wait", "--require-checks")

    assert "check was already failing" in said.stdout  # it was waited for, and is not held against the patch
    assert over(product, run) == [("failed", 1), ("failed", 1)]
    assert checks(product, run)[1]["run_id"] == on_base["run_id"]  # the base was not checked again
    product.is_clean()
