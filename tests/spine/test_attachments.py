"""Attachments as agents find them: outside of the workspace, whole, in every turn and every sandbox of their run."""

from __future__ import annotations

import hashlib
import re

from tests.spine.product import BRISK, Product, wait_for

ENVIRONMENT = BRISK

BINARY = bytes(range(256)) * 64  # it travels in an argument
NAMED = "Übersicht für Zoë – 1.txt"
SHOW = 'sha256sum "$ASYNCCODE_ATTACHMENTS"/*; stat -c %A "$ASYNCCODE_ATTACHMENTS"/*'


def say(code: str, product: Product) -> int:
    """The number that code prints at last, run where `attach` stores files of the user: name → content."""
    prelude = """
from django.core.files.uploadedfile import SimpleUploadedFile
from tasks import services
from tasks.attachments import store
from tasks.models import Repo, Run, User
user = User.objects.get()
def attach(**files):
    return store(by=user, files=[SimpleUploadedFile(name, content) for name, content in files.items()])
"""
    return int(product.manage("shell", "-v", "0", "-c", prelude + code).stdout.split()[-1])


def start(product: Product, script: str, files: dict[str, bytes]) -> int:
    return say(
        f"""
repo = Repo.objects.get(source={str(product.repo)!r})
task = services.create_task(
    by=user, repo=repo, prompt={script!r}, agents=[services.AgentChoice("shell")], attachments=attach(**{files!r})
)
print(task.runs.get().pk)
""",
        product,
    )


def follow_up(product: Product, run: int, script: str, files: dict[str, bytes]) -> None:
    say(
        f"print(services.send_follow_up(run=Run.objects.get(pk={run}), by=user, prompt={script!r}, attachments=attach(**{files!r})).pk)",
        product,
    )


def sums(text: str) -> dict[str, str]:
    """File name → SHA-256, of what the newest turn wrote."""
    return {name: digest for digest, name in re.findall(r"^([0-9a-f]{64}) [ *]/home/agent/attachments/(.+)$", text, re.MULTILINE)}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_files_lie_outside_of_the_workspace_in_every_turn_and_every_sandbox(product: Product) -> None:
    first = {"data.bin": digest(BINARY), NAMED: digest(b"notes")}
    run = start(product, f"{SHOW}; echo done > result.txt", {"data.bin": BINARY, NAMED: b"notes"})
    assert product.ended(run)["status"] == "succeeded", product.text(run, "stderr")
    assert sums(product.text(run)) == first
    assert product.files(run) == {"result.txt": "done\n"}

    # Another turn in the same sandbox: what was there stays, also as the agent has changed it.
    follow_up(product, run, f'echo changed > "$ASYNCCODE_ATTACHMENTS/{NAMED}"; {SHOW}', {"data.bin": b"other"})
    wait_for(lambda: product.run(run)["status"] == "succeeded" and digest(b"other") in product.text(run), "the second turn", 60)
    assert sums(product.text(run)) == first | {"data 2.bin": digest(b"other"), NAMED: digest(b"changed\n")}
    assert product.run(run)["generation"] == 1

    # A new sandbox has the files of all turns, as they were attached.
    product.is_clean()
    product.enqueue("destroy_sandbox", product.sandboxes(run)[0]["id"])
    wait_for(lambda: product.sandboxes(run)[0]["status"] == "destroyed", "its end")
    product.manage("follow-up", str(run), "--prompt", f"echo third; {SHOW}", "--wait")
    assert product.run(run)["generation"] == 2
    assert sums(product.text(run).partition("third\n")[2]) == first | {"data 2.bin": digest(b"other")}
    assert product.files(run) == {"result.txt": "done\n"}

    # So has another attempt those of the prompt.
    again = say(f"print(services.retry_run(run=Run.objects.get(pk={run}), by=user).pk)", product)
    assert product.ended(again)["status"] == "succeeded"
    assert sums(product.text(again)) == first
    product.is_clean()


def test_a_run_without_files_has_no_folder_and_no_variable(product: Product) -> None:
    (run,) = product.submit('echo "${ASYNCCODE_ATTACHMENTS-unset}"; ls ~/attachments')
    assert product.ended(run)["status"] == "failed"
    assert product.text(run) == "unset\n"


def test_files_are_there_when_the_start_died_and_was_made_again(product: Product) -> None:
    """All workers are killed while the run starts; another start, in another sandbox, brings the files again."""
    run = start(product, SHOW, {"data.bin": BINARY})
    product.renew_workers()
    assert product.settled(run, 90)["status"] == "succeeded"
    assert sums(product.text(run)) == {"data.bin": digest(BINARY)}
    product.is_clean()
