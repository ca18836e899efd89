"""Turns as users see them: follow-ups, failures, variables and secrets."""

from __future__ import annotations

import json
import subprocess

from tests.spine.product import BRISK, GIT, Product, wait_for

ENVIRONMENT = BRISK


def turns(product: Product, run: int) -> list[str]:
    return [row["status"] for row in product.rows("SELECT status FROM tasks_turn WHERE run_id = %s ORDER BY number", run)]


def contiguous(product: Product, run: int) -> bool:
    events = product.events(run)
    return [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_a_follow_up_goes_on_in_the_same_sandbox(product: Product) -> None:
    (run,) = product.submit("echo one > one.txt; echo here > ~/home.txt")
    product.until(run, "succeeded")
    product.is_clean()  # it sleeps

    said = json.loads(
        product.manage("follow-up", str(run), "--prompt", "cat one.txt ~/home.txt; echo two > two.txt", "--wait", "--json").stdout
    )

    assert said["runs"][0]["status"] == "succeeded"
    assert product.text(run) == "one\nhere\n"
    assert product.files(run) == {"one.txt": "one\n", "two.txt": "two\n"}
    assert product.run(run)["generation"] == 1
    assert contiguous(product, run)
    product.is_clean()


def test_follow_ups_wait_for_the_turn_at_work_and_for_one_another(product: Product) -> None:
    (run,) = product.submit("echo ready; sleep 1.5; echo 0 >> order.txt")
    wait_for(lambda: "ready" in product.text(run), "the first turn")
    for number in (1, 2, 3):
        product.manage("follow-up", str(run), "--prompt", f"echo {number} >> order.txt")

    wait_for(lambda: turns(product, run) == ["succeeded"] * 4, "four turns", 60)

    assert product.files(run)["order.txt"] == "0\n1\n2\n3\n"
    assert product.run(run)["generation"] == 1
    assert contiguous(product, run)
    product.is_clean()


def test_a_follow_up_whose_sandbox_was_destroyed_gets_a_new_one_with_the_patch(product: Product) -> None:
    (run,) = product.submit("echo one > one.txt")
    product.until(run, "succeeded")
    product.is_clean()
    product.enqueue("destroy_sandbox", product.sandboxes(run)[0]["id"])
    wait_for(lambda: product.sandboxes(run)[0]["status"] == "destroyed", "its end")

    product.manage("follow-up", str(run), "--prompt", "cat one.txt; echo two > two.txt", "--wait")

    assert product.text(run) == "one\n"
    assert product.files(run) == {"one.txt": "one\n", "two.txt": "two\n"}
    assert [row["generation"] for row in product.sandboxes(run)] == [1, 2]
    product.is_clean()


def test_a_script_that_fails_keeps_its_patch(product: Product) -> None:
    (run,) = product.submit("echo done > half.txt; echo why >&2; exit 3")
    row = product.ended(run)
    assert (row["status"], row["stage"], row["error_class"]) == ("failed", "agent", "crashed")
    assert "exit code 3" in row["error"]
    assert product.files(run) == {"half.txt": "done\n"}
    assert product.text(run, "stderr") == "why\n"


def test_a_silent_script_is_stopped_as_hung(product: Product) -> None:
    (run,) = product.submit("echo working; echo done > half.txt; sleep 1000")
    row = product.ended(run, 20)
    assert (row["status"], row["stage"], row["error_class"]) == ("failed", "agent", "hung")
    assert product.files(run) == {"half.txt": "done\n"}
    product.is_clean()


def make_repo(product: Product, name: str, setup: str, **variables: tuple[str, bool]) -> str:
    """A repository with a setup script and variables: name → (value, whether it is secret)."""
    folder = product.folder / name
    for words in (["init", "-q", str(folder)], ["-C", str(folder), "commit", "-q", "--allow-empty", "-m", "Begin"]):
        subprocess.run([*GIT, *words], check=True)
    code = f"""
from tasks import repositories
from tasks.models import User, Variable
repo = repositories.add_repo(by=User.objects.get(), source={str(folder)!r})
type(repo).objects.filter(pk=repo.pk).update(setup_script={setup!r}, prepares=False)
for name, (value, is_secret) in {variables!r}.items():
    variable = Variable(repo=repo, name=name, is_secret=is_secret, phase="setup" if is_secret else "agent")
    variable.value = value
    variable.save()
"""
    product.manage("shell", "-c", code)
    return str(folder)


def submit(product: Product, repo: str, script: str) -> int:
    said = product.manage("submit", "--repo", repo, "--agent", "shell", "--prompt", script, "--json").stdout
    return int(json.loads(said)["runs"][0]["id"])


def test_a_setup_script_that_fails_is_no_fault_of_the_agent(product: Product) -> None:
    repo = make_repo(product, "bad-setup", "echo trying\nfalse\necho never")
    run = submit(product, repo, product.witness.call("bad-setup"))
    row = product.ended(run)
    assert (row["status"], row["stage"]) == ("errored", "setup")
    assert "exit code 1" in row["error"]
    assert product.text(run, step="setup") == "trying\n"
    assert product.witness.count("bad-setup") == 0
    product.is_clean()


def test_secrets_stay_in_the_setup_step_and_out_of_events(product: Product) -> None:
    secret = "s3cret-value-of-the-registry"
    setup = 'echo "logging in with $TOKEN to $PLACE"; echo "$TOKEN" > leaked.txt'
    repo = make_repo(product, "secrets", setup, TOKEN=(secret, True), PLACE=("example.org", False))
    run = submit(product, repo, 'echo "${TOKEN-unset} at $PLACE"; cat leaked.txt; echo in a moment; sleep 0.3; cat leaked.txt >&2')
    assert product.ended(run)["status"] == "succeeded"

    assert product.text(run, step="setup") == "logging in with ••• to example.org\n"
    assert product.text(run) == "unset at example.org\n•••\nin a moment\n"
    assert product.text(run, "stderr") == "•••\n"
    assert secret not in json.dumps([event["data"] for event in product.events(run)])
    patch = product.patch(run)
    assert patch is not None
    assert patch["secrets_found"] == ["TOKEN"]
    product.is_clean()
