"""A run's page: its log in pages, its patch as it is, and what can be done with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.models import Event, EventKind, Patch, PatchKind, Run, RunStatus, Task, Turn, User
from tasks.review.diffs import anchor
from tasks.running import events
from tasks.web import log

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
CONTENT = b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-<a>\n+\xff\n"


def write(run: Run, count: int, text: str = "line {}\n") -> None:
    for number in range(1, count + 1):
        events.append(run.pk, EventKind.LOG, {"stream": "stdout", "text": text.format(number)})


def add_patch(run: Run, content: bytes = CONTENT, **fields: object) -> Patch:
    defaults = {"kind": PatchKind.FINAL, "sha256": "0", "files": [{"path": "f", "state": "modified", "additions": 1, "deletions": 1}]}
    return Patch.objects.create(run=run, turn=run.turns.get(), content=content, **defaults | fields)


def numbers(page: str) -> list[int]:
    return [int(number) for number in re.findall(r"line (\d+)<", page)]


# --- the log ---


def test_the_log_is_shown_in_order_and_escaped(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run()
    write(run, 3)
    write(run, 1, "<script>alert({})</script>\x1b[31m\u202e\n")
    page = as_alice.get(run.get_absolute_url()).content.decode()
    assert numbers(page) == [1, 2, 3]
    assert "<script>alert" not in page
    assert "U+202E" in page


def test_a_long_log_is_shown_in_pages_without_gap_or_double(
    as_alice: Client, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_EVENTS", 40)
    run = make_run()
    write(run, 100)
    seen: list[int] = []
    address = run.get_absolute_url()
    while True:
        page = as_alice.get(address).content.decode()
        seen = numbers(page) + seen
        older = re.search(r'rel="prev"\s+href="([^"]+)"', page)
        if older is None:
            break
        address = older[1]
    assert seen == list(range(1, 101))
    assert 'rel="next"' in page
    assert numbers(as_alice.get(f"{run.get_absolute_url()}?after=40").content.decode()) == list(range(41, 81))


def test_a_page_is_bounded_in_size_too(make_run: Callable[..., Run]) -> None:
    run = make_run()
    write(run, 60, "x" * 19_000 + "{}")
    run.refresh_from_db()
    page = log.newest(run)
    assert 0 < len(page.pieces) < 60
    assert (page.last, page.has_older, page.has_newer) == (60, True, False)
    following = log.after(run, 0)
    assert (following.first, following.has_older, following.has_newer) == (1, False, True)
    assert following.last == len(following.pieces)


def test_an_empty_log_says_so(as_alice: Client, make_run: Callable[..., Run]) -> None:
    assert "Nothing has happened yet" in as_alice.get(make_run().get_absolute_url()).content.decode()


@pytest.mark.parametrize("query", ["before=x", "after=-1", "before=99999999999999999999999", "after="])
def test_odd_addresses_show_the_newest_page(as_alice: Client, make_run: Callable[..., Run], query: str) -> None:
    run = make_run()
    write(run, 2)
    assert numbers(as_alice.get(f"{run.get_absolute_url()}?{query}").content.decode()) == [1, 2]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("closed_connections")
async def test_the_raw_log_is_streamed_as_json_lines(alice: User, make_run: Callable[..., Run]) -> None:
    run = await sync_to_async(make_run)()
    await Event.objects.abulk_create(Event(run=run, seq=seq, kind="log", data={"text": f"é{seq}\n"}) for seq in range(1, 1203))
    client = AsyncClient()
    await client.aforce_login(alice)
    response = await client.get(f"/runs/{run.pk}/events.jsonl")
    lines = b"".join([part async for part in response]).decode().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, 1203))
    assert json.loads(lines[0])["data"] == {"text": "é1\n"}


# --- the patch ---


def test_the_patch_is_plain_text_byte_for_byte(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run()
    add_patch(run)
    response = as_alice.get(f"/runs/{run.pk}/patch")
    assert response.content == CONTENT
    assert response.headers["Content-Type"].startswith("text/plain")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    download = as_alice.get(f"/runs/{run.pk}/patch?download")
    assert download.content == CONTENT
    assert download.headers["Content-Disposition"] == f'attachment; filename="run-{run.pk}.patch"'


def test_without_a_patch_there_is_none(as_alice: Client, make_run: Callable[..., Run]) -> None:
    assert as_alice.get(f"/runs/{make_run().pk}/patch").status_code == 404


def test_the_page_shows_files_secrets_and_what_was_left_out(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="succeeded")
    files = [{"path": "<b>\n.py", "old_path": "old", "state": "renamed", "additions": 4, "deletions": 2, "is_binary": False}]
    left_out = [{"path": "big.bin", "bytes": 11_000_000, "reason": "size"}]
    add_patch(run, files=files, left_out=left_out, secrets_found=["NPM_TOKEN"], additions=4, deletions=2)
    page = as_alice.get(run.get_absolute_url()).content.decode()
    name = anchor("<b>\n.py")
    assert f'href="/runs/{run.pk}/changes/?file={name}#{name}"' in page
    for text in ("&lt;b&gt;", "renamed", "big.bin", "10.5", "over the size limit", "NPM_TOKEN"):
        assert text in page


def test_an_empty_patch_says_no_changes(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="succeeded")
    add_patch(run, b"", files=[])
    assert "No changes" in as_alice.get(run.get_absolute_url()).content.decode()
    assert as_alice.get(f"/runs/{run.pk}/patch").content == b""


# --- what can be done ---


@pytest.mark.parametrize("path", ["", "events", "events.jsonl", "patch"])
def test_another_users_run_cannot_be_seen(as_bob: Client, make_run: Callable[..., Run], path: str) -> None:
    run = make_run()
    add_patch(run)
    assert as_bob.get(run.get_absolute_url() + path).status_code == 404


@pytest.mark.parametrize("path", ["stop", "retry", "follow-up", "follow-ups/1/remove"])
def test_another_users_run_cannot_be_touched(as_bob: Client, make_run: Callable[..., Run], path: str) -> None:
    run = make_run()
    assert as_bob.post(run.get_absolute_url() + path, {"prompt": "x"}).status_code == 404
    assert (Run.objects.get().status, Turn.objects.count()) == (RunStatus.QUEUED, 1)


@pytest.mark.parametrize("path", ["stop", "retry", "follow-up", "follow-ups/1/remove"])
def test_what_changes_something_takes_post(as_alice: Client, make_run: Callable[..., Run], path: str) -> None:
    assert as_alice.get(make_run().get_absolute_url() + path).status_code == 405


def test_stop(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run()
    response = as_alice.post(f"{run.get_absolute_url()}stop", headers=HTMX)
    run.refresh_from_db()
    assert (run.status, response.status_code, response.headers["HX-Trigger"]) == (RunStatus.CANCELED, 204, '{"news": {}}')


@pytest.mark.parametrize(("to", "is_task"), [("task", True), ("https://elsewhere.example/", False), ("", False)])
def test_stopping_without_scripts_leads_back_to_where_it_was_asked(
    as_alice: Client, make_run: Callable[..., Run], to: str, is_task: bool
) -> None:
    run = make_run()
    response = as_alice.post(f"{run.get_absolute_url()}stop", {"to": to})
    assert response.headers["Location"] == (run.task if is_task else run).get_absolute_url()


def test_retry_leads_to_the_new_run(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="failed")
    response = as_alice.post(f"{run.get_absolute_url()}retry", {"open": ""})
    new = Run.objects.exclude(pk=run.pk).get()
    assert (new.attempt, response.headers["Location"]) == (2, new.get_absolute_url())


def test_what_cannot_be_done_is_said(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run()
    response = as_alice.post(f"{run.get_absolute_url()}retry", follow=True)
    assert "The run is not over yet. Stop it first." in response.content.decode()


def test_a_follow_up_is_another_turn(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="succeeded")
    assert as_alice.post(f"{run.get_absolute_url()}follow-up", {"prompt": "and\r\nthen"}).status_code == 302
    assert run.turns.get(number=2).prompt == "and\nthen"
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED


def test_an_empty_follow_up_is_refused(as_alice: Client, make_run: Callable[..., Run]) -> None:
    response = as_alice.post(f"{make_run().get_absolute_url()}follow-up", {"prompt": ""})
    assert response.status_code == 422
    assert "The follow-up is empty." in response.content.decode()


def test_a_follow_up_is_sent_in_place(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="succeeded")
    sent = as_alice.post(f"{run.get_absolute_url()}follow-up", {"prompt": "more"}, headers=HTMX)
    assert sent.status_code == 200
    assert "more" not in sent.content.decode().partition("<textarea")[2].partition("</textarea>")[0]
    refused = as_alice.post(f"{run.get_absolute_url()}follow-up", {"prompt": "kept \0"}, headers=HTMX)
    page = refused.content.decode()
    assert refused.status_code == 422
    assert "Null characters are not allowed." in page
    assert "kept" in page
    assert "<html" not in page


def test_a_follow_up_that_waits_is_shown_and_can_be_removed(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="running")
    as_alice.post(f"{run.get_absolute_url()}follow-up", {"prompt": "<b>first</b> line\nsecond"})
    page = as_alice.get(run.get_absolute_url()).content.decode()
    assert "&lt;b&gt;first&lt;/b&gt; line" in page
    assert f"{run.get_absolute_url()}follow-ups/2/remove" in page
    response = as_alice.post(f"{run.get_absolute_url()}follow-ups/2/remove", headers=HTMX)
    assert (response.status_code, response.headers["HX-Trigger"]) == (204, '{"news": {}}')
    assert "follow-ups/2/remove" not in as_alice.get(run.get_absolute_url()).content.decode()
    assert "has begun or is over" in as_alice.post(f"{run.get_absolute_url()}follow-ups/2/remove", follow=True).content.decode()
    assert as_alice.post(f"{run.get_absolute_url()}follow-ups/9/remove").status_code == 404


def test_neighbors_are_the_tasks_other_runs(as_alice: Client, make_run: Callable[..., Run]) -> None:
    first = make_run()
    second, third = make_run(first.task), make_run(first.task)
    make_run()
    page = as_alice.get(second.get_absolute_url()).content.decode()
    assert "2 of 3" in page
    assert re.search(rf'href="/runs/{first.pk}/"\s+data-key="\["', page)
    assert re.search(rf'href="/runs/{third.pk}/"\s+data-key="\]"', page)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("queued", "running"),
        ("running", "running"),
        ("waiting", "waiting"),
        ("succeeded", "done"),
        ("canceled", "done"),
        ("errored", "failed"),
    ],
)
def test_the_page_says_how_it_stands_for_the_windows_title(as_alice: Client, make_run: Callable[..., Run], status: str, state: str) -> None:
    page = as_alice.get(make_run(status=status).get_absolute_url()).content.decode()
    assert f'data-page-state="{state}"' in page
    assert 'data-page-title="Shell script · Do it"' in page


def test_an_archived_task_says_why_there_are_no_follow_ups(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="succeeded")
    Task.objects.update(archived_at=timezone.now())
    page = as_alice.get(run.get_absolute_url()).content.decode()
    assert "This task is archived" in page
    assert 'id="follow-up"' not in page
    assert 'id="retry"' not in page


# --- what is sent for news, and what it costs ---


@pytest.mark.parametrize(("part", "has"), [("status", "Queued"), ("work", "No patch yet")])
def test_for_news_only_a_part_is_sent(as_alice: Client, make_run: Callable[..., Run], part: str, has: str) -> None:
    page = as_alice.get(make_run().get_absolute_url(), headers=HTMX | {"HX-Target": part}).content.decode()
    assert has in page
    assert "<html" not in page


def test_changes_that_were_seen_are_not_sent_again(as_alice: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(status="running")
    add_patch(run, kind=PatchKind.CHECKPOINT)
    ask = HTMX | {"HX-Target": "work"}
    page = as_alice.get(run.get_absolute_url(), headers=ask).content.decode()
    seen = re.search(r'name="seen" value="([^"]+)"', page)
    assert seen
    assert as_alice.get(run.get_absolute_url(), {"tab": "changes", "seen": seen[1]}, headers=ask).status_code == 204
    Patch.objects.update(sha256="1")
    assert as_alice.get(run.get_absolute_url(), {"tab": "changes", "seen": seen[1]}, headers=ask).status_code == 200
    assert as_alice.get(run.get_absolute_url(), {"tab": "sandbox", "seen": ""}, headers=ask).status_code == 200


@pytest.mark.parametrize(
    ("query", "part", "most"),
    [
        ("", None, 12),
        ("?tab=network", None, 12),
        ("?tab=sandbox", None, 12),
        ("", "status", 6),
        ("", "work", 6),
        ("?tab=sandbox", "work", 8),
    ],
)
def test_what_a_page_costs_does_not_grow(as_alice: Client, make_run: Callable[..., Run], query: str, part: str | None, most: int) -> None:
    """Whether a run has one turn, event and sibling or many."""
    run = make_run(status="succeeded", sandbox=True)
    add_patch(run)

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            as_alice.get(run.get_absolute_url() + query, headers=HTMX | {"HX-Target": part} if part else {})
        return len(queries)

    first = cost()
    for number in range(2, 12):
        turn = Turn.objects.create(run=run, number=number, prompt="more", status="succeeded")
        make_run(run.task)
        events.append(run.pk, EventKind.STATUS, {"status": "starting", "stage": "provision"}, turn_id=turn.pk)
        events.append(run.pk, EventKind.STATUS, {"status": "succeeded"}, turn_id=turn.pk)
        Turn.objects.create(run=run, number=100 + number, prompt="waits")
    write(run, 300)
    assert cost() <= min(most, first + 4)  # what waits, and what the log of turns is made of


@pytest.mark.parametrize(("status", "sentence"), [("queued", "Events appear here as they come"), ("canceled", "ended before anything")])
def test_an_empty_log_says_whether_something_will_come(as_alice: Client, make_run: Callable[..., Run], status: str, sentence: str) -> None:
    assert sentence in as_alice.get(f"/runs/{make_run(status=status).pk}/").content.decode()
