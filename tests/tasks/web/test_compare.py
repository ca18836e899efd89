"""The comparison of a task's runs: all files of all, one file in several, what can be done from there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.models import Check, EventKind, Operation, Patch, Repo, Run, Task
from tasks.review.diffs import anchor
from tasks.running import events
from tests.tasks.review.conftest import Workshop

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
BASE: dict[str, bytes | None] = {"shop/cart.py": b"one\ntwo\nthree\n", "README.md": b"hello\n"}
FIRST: dict[str, bytes | None] = {"shop/cart.py": b"one\nTWO\nthree\n", "README.md": b"hello there\n", "new.py": b"x = 1\n"}
SECOND: dict[str, bytes | None] = {"shop/cart.py": None, "shop/basket.py": b"one\ntwo\nthree\nfour\n", "README.md": b"hello there\n"}


@pytest.fixture
def task(workshop: Workshop) -> Task:
    return workshop.base(BASE)


@pytest.fixture
def attempt(workshop: Workshop, task: Task, make_run: MakeRun) -> Callable[..., Run]:
    """A run that is over and has left these files."""

    def make(files: dict[str, bytes | None], **fields: object) -> Run:
        run = make_run(task, **{"status": "succeeded"} | fields)
        workshop.git("reset", "-q", "--hard")
        workshop.git("clean", "-qfd")
        patch = workshop.patch(run.turns.get(), files)
        counts = [line.split("\t") for line in workshop.git("diff", "--cached", "--numstat", "HEAD").decode().splitlines()]
        Patch.objects.filter(pk=patch.pk).update(
            files=[{"path": path} for *_, path in counts],
            additions=sum(int(added) for added, *_ in counts),
            deletions=sum(int(deleted) for _, deleted, _ in counts),
        )
        return run

    return make


def page(client: Client, task: Task, query: str = "", path: str = "compare/") -> str:
    response = client.get(f"{task.get_absolute_url()}{path}{query}")
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_files_and_figures_of_all_runs(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    first = attempt(FIRST, input_tokens=10, output_tokens=5, cost_usd="0.50")
    second = attempt(SECOND, input_tokens=1000, output_tokens=5, cost_usd="0.25")
    began = timezone.now() - timedelta(minutes=5)
    first.turns.update(started_at=began, finished_at=began + timedelta(seconds=100))
    second.turns.update(started_at=began, finished_at=began + timedelta(seconds=60))
    events.append(first.pk, EventKind.TOOL_CALL, {"id": "1", "tool": "edit", "title": "Edit", "input": {}}, turn_id=first.turns.get().pk)
    shown = text(page(as_alice, task))
    for said in ("Time 1:40 1:00 fastest", "Cost $0.50 $0.25 cheapest", "Lines +3 −2 ", "Today Applies Applies", "3 files"):
        assert said in shown
    assert re.search(r"First edit (4:59|5:0\d) –", shown)
    assert re.search(r"Tokens 10 in · 5 out fewest", shown)
    assert "README.md all the same content A +1 −1 content A +1 −1" in shown
    assert "shop/ cart.py +1 −1 renamed +1 → shop/basket.py" in shown
    assert re.search(r"new.py only in shell new \+1 · not touched", shown)
    assert f"?runs={first.pk},{second.pk}&amp;only={first.pk}" in page(as_alice, task)
    assert "README" not in page(as_alice, task, f"?only={first.pk}")


def test_each_run_s_check_is_there_and_can_be_done_again(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    checked, unchecked = attempt(FIRST), attempt(SECOND)
    assert "Check" not in text(page(as_alice, task))
    Repo.objects.update(check_command="make test")
    alike = {"repo": task.repo, "base_commit": task.base_commit, "backend": "local", "command": "make test", "status": "failed"}
    Check.objects.create(patch=checked.patches.get(), base=Check.objects.create(**alike), **alike)
    shown = page(as_alice, task)
    assert f"Check Check was already failing Check again : {checked.label} Run check : {unchecked.label}" in text(shown)
    done = as_alice.post(f"{unchecked.get_absolute_url()}check", {"to": "compare"})
    assert done.headers["Location"] == f"{task.get_absolute_url()}compare/"
    assert "Check queued" in text(page(as_alice, task))


def test_what_is_nothing_to_compare_is_told(as_alice: Client, task: Task, attempt: Callable[..., Run], make_run: MakeRun) -> None:
    failed = make_run(task, status="failed")
    assert "Nothing to compare yet" in page(as_alice, task)
    attempt(FIRST)
    shown = text(page(as_alice, task))
    assert f"{failed.label} has no patch." in shown
    assert "By path" not in shown
    attempt(FIRST)
    assert "All of these runs left the same." in text(page(as_alice, task))


def test_only_the_runs_that_are_asked_for(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    first, second = attempt(FIRST), attempt(SECOND)
    assert "basket" not in page(as_alice, task, f"?runs={first.pk}")
    assert "new.py" not in page(as_alice, task, f"?runs={second.pk},99999999")


def test_what_does_not_apply_any_more_is_told_with_its_files(
    as_alice: Client, workshop: Workshop, task: Task, attempt: Callable[..., Run]
) -> None:
    attempt(FIRST)
    attempt({"other.py": b"y\n"})
    workshop.git("reset", "-q", "--hard")
    pinned = task.base_commit
    workshop.base({"README.md": b"goodbye\n"})
    Task.objects.exclude(pk=task.pk).delete()
    shown = text(page(as_alice, task))
    assert f"main has moved on to {workshop.task.base_commit[:8]} since the task began at {pinned[:8]}" in shown
    assert "Conflicts in 1 file README.md Applies" in shown
    response = as_alice.post(f"{task.get_absolute_url()}compare/fetch")
    assert response.status_code == 302
    assert Operation.objects.filter(kind="mirror", subject=f"repo:{task.repo_id}").exists()


def test_a_patch_that_does_not_fit_any_more_is_left_out(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    broken, whole = attempt(FIRST), attempt(SECOND)
    Patch.objects.filter(run=broken).update(content=b"diff --git a/no b/no\n--- a/no\n+++ b/no\n@@ -1 +1 @@\n-x\n+y\n", tree="")
    html = page(as_alice, task, f"?only={whole.pk}")
    assert "shell is left out: This patch does not fit" in text(html)
    assert "basket.py" in html
    assert "new.py" not in html


def test_one_file_in_two_runs(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    first, second = attempt(FIRST), attempt(SECOND)
    link = re.search(r'href="([^"]+)" id="file-\w+" title="shop/cart.py"', page(as_alice, task))
    assert link
    response = as_alice.get(link[1].replace("&amp;", "&"))
    shown = response.content.decode()
    assert [f"id=s{number}-L1" in shown for number in (1, 2, 3)] == [True, True, False]
    assert text(shown).count("three") == 2
    assert "→ shop/basket.py" in text(shown)
    assert "2 of 2 runs touched it." in text(shown)
    same = as_alice.get(f"{task.get_absolute_url()}compare/file?file={anchor('README.md')}").content.decode()
    assert re.findall(r"same as ([^<]+)<", same) == [second.label, first.label]
    against = as_alice.get(f"{link[1].replace('&amp;', '&')}&against={first.pk}").content.decode()
    assert [f"id=s{number}-L1" in against for number in (1, 2)] == [True, False]
    assert '<table class="diff split">' in against
    assert "TWO" in text(against)
    assert f'<option value="{second.pk}"' in against
    assert as_alice.get(f"{task.get_absolute_url()}compare/file?file=f0").status_code == 404


def test_one_run_against_another(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    first, second = attempt(FIRST), attempt(SECOND)
    many = attempt({f"{number:02}.txt": b"line\n" * 150 for number in range(40)})

    def differences(old: Run, new: Run) -> str:
        response = as_alice.get(f"{task.get_absolute_url()}compare/trees", {"old": old.pk, "new": new.pk}, follow=True)
        assert response.status_code == 200
        return re.sub(r"\s+", " ", response.content.decode())

    html = differences(first, second)
    shown = text(html)
    assert f"Red is what only {first.label} has, green what only {second.label} has." in shown
    assert f"new.py only in {first.label}" in shown
    assert "basket.py" in shown
    assert "TWO" in shown
    assert "README" not in shown  # both left the same
    assert re.findall(r"<option value=\"(\d+)\" selected", html) == [str(first.pk), str(second.pk)]
    # All files are there; the lines of those further down come as on the page of changes, which it is.
    html = differences(first, many)
    assert html.count('class="changed-file"') == 43
    later = as_alice.get(f"{many.get_absolute_url()}changes/files", {"since": f"run-{first.pk}", "file": anchor("39.txt")})
    assert later.content.decode().count("<tr class=a>") == 150
    assert "Both runs left the same files." in text(differences(first, first))
    assert as_alice.get(f"{task.get_absolute_url()}compare/trees?old={first.pk}&new=0").status_code == 404


def test_equal_lines_between_two_runs_come_when_they_are_asked_for(
    as_alice: Client, workshop: Workshop, attempt: Callable[..., Run]
) -> None:
    lines = [b"line %d\n" % number for number in range(60)]
    workshop.git("reset", "-q", "--hard")
    base = workshop.base({"long.py": b"".join(lines)})
    runs = [attempt({"long.py": b"".join([*lines[:59], last])}) for last in (b"first\n", b"second\n")]
    Run.objects.update(task=base)
    against = as_alice.get(f"{runs[1].get_absolute_url()}changes/", {"since": f"run-{runs[0].pk}"}).content.decode()
    link = re.search(r'<tr class=g><td colspan=\d><a href="([^"]+)"', against)
    assert link
    rows = as_alice.get(link[1].replace("&amp;", "&"), headers={"HX-Request": "true"}).content.decode()
    assert "line 0" in text(rows.replace("<", " <"))


def test_only_runs_of_the_same_task_are_held_against_each_other(
    as_alice: Client, task: Task, attempt: Callable[..., Run], make_run: MakeRun
) -> None:
    run, other = attempt(FIRST), attempt(SECOND)
    Run.objects.filter(pk=other.pk).update(task=Task.objects.create(owner=task.owner, repo=task.repo, title="x", prompt="x"))
    nothing = make_run(task, status="failed")
    for pk in (other.pk, nothing.pk, 0, 10**18 - 1):
        assert as_alice.get(f"{run.get_absolute_url()}changes/", {"since": f"run-{pk}"}).status_code == 404


def test_choosing_is_marked_everywhere_and_can_be_taken_back(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    first, second = attempt(FIRST), attempt(SECOND)
    assert f"{task.get_absolute_url()}compare/" in page(as_alice, task, path="")
    assert "The other run" in as_alice.get(f"{first.get_absolute_url()}choose").content.decode()
    response = as_alice.post(f"{first.get_absolute_url()}choose", {"others": "aside", "to": "compare"}, follow=True)
    shown = response.content.decode()
    assert "shell is chosen. The others are set aside." in shown
    assert f"undo:{task.get_absolute_url()}unchoose" in str(next(iter(response.context["messages"])).extra_tags)
    assert "Undo choice" in shown
    of_task = page(as_alice, task, path="")
    assert "1 run not chosen" in text(of_task)
    assert "Chosen" in text(of_task)
    assert "chosen" in text(as_alice.get("/").content.decode())
    as_alice.post(f"{task.get_absolute_url()}unchoose")
    assert "not chosen" not in page(as_alice, task, path="")
    assert not Run.objects.exclude(chosen_at=None, set_aside_at=None).exists()
    assert second.pk


def test_what_cannot_be_chosen_says_why(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    run = attempt(FIRST, status="running")
    response = as_alice.post(f"{run.get_absolute_url()}choose")
    assert response.status_code == 422
    assert "still at work" in response.content.decode()


def test_combining_begins_a_run_with_the_prompt_as_it_was_edited(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    first, second = attempt(FIRST), attempt(SECOND)
    address = f"{task.get_absolute_url()}combine?runs={second.pk},{first.pk}"
    form = as_alice.get(address).content.decode()
    assert "1-shell.patch: shell #2" in form
    refused = as_alice.post(address, {"agent": "shell", "prompt": ""})
    assert refused.status_code == 422
    assert as_alice.post(address, {"agent": "nobody", "prompt": "take both"}).status_code == 422
    as_alice.post(address, {"agent": "shell", "prompt": "take both"})
    new = Run.objects.latest("pk")
    assert (new.turns.get().prompt, new.turns.get().attachments.count()) == ("take both", 2)
    assert as_alice.get(f"{task.get_absolute_url()}combine").status_code == 404


@pytest.mark.parametrize("path", ["compare/", "compare/file", "compare/trees", "combine", "compare/fetch", "unchoose"])
def test_another_users_task_is_not_there(as_bob: Client, task: Task, attempt: Callable[..., Run], path: str) -> None:
    run = attempt(FIRST)
    asked = as_bob.post if path in ("compare/fetch", "unchoose") else as_bob.get
    assert asked(f"{task.get_absolute_url()}{path}").status_code == 404
    assert as_bob.get(f"{run.get_absolute_url()}choose").status_code == 404


def test_more_runs_cost_no_more_queries(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    def count() -> int:
        page(as_alice, task)  # trees are made of patches once
        with CaptureQueriesContext(connection) as captured:
            page(as_alice, task)
        return len(captured)

    attempt(FIRST)
    attempt(SECOND)
    few = count()
    for number in range(4):
        attempt({f"{number}.py": b"x\n"})
    assert count() == few <= 12


def test_hostile_names_are_shown_as_text(as_alice: Client, task: Task, attempt: Callable[..., Run]) -> None:
    attempt({"<script>alert(1)<": b"x\n", "a\u202eb": b"x\n"})
    attempt({"<script>alert(1)<": b"y\n"})
    shown = page(as_alice, task)
    assert "<script>alert" not in shown
    assert "\u202e" not in shown
