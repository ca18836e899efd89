"""Comments on the page of a run's changes, asked as a browser without scripts asks, and as the scripts do."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from tasks.models import Comment, PullRequest, Run, RunStatus, Turn, User
from tasks.review.diffs import anchor
from tests.tasks.review.conftest import Workshop

OLD = b"one\ntwo\nthree\n"
NEW = b"one\nTWO\nthree\nfour\n"
A = anchor("a.txt")
SCRIPT = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def run(workshop: Workshop, make_run: Callable[..., Run]) -> Run:
    run = make_run(workshop.base({"a.txt": OLD, "b.txt": OLD}), status="succeeded")
    workshop.patch(run.turns.get(), {"a.txt": NEW, "b.txt": NEW})
    return run


def page(client: Client, run: Run, **query: Any) -> str:
    response = client.get(f"/runs/{run.pk}/changes/", query)
    assert response.status_code == 200
    return response.content.decode()


def seen(client: Client, run: Run, file: str = A) -> str:
    """What the page gives along for comments on a file."""
    found = re.search(rf'id="{file}"\s[^>]*data-seen="([^"]+)"', page(client, run))
    assert found
    return unescape(found[1])


def fields(client: Client, run: Run, **change: Any) -> dict[str, Any]:
    made = {"seen": seen(client, run), "file": A, "side": "new", "start": "2", "end": "2", "body": "Why?"}
    return made | change


def write(client: Client, run: Run, **change: Any) -> Comment:
    response = client.post(f"/runs/{run.pk}/comments/", fields(client, run, **change))
    assert response.status_code == 302, response.content.decode()
    return Comment.objects.latest("pk")


def comments(html: str) -> list[tuple[str, str, str]]:
    """Each comment of a page: the id of its line, how it stands, and its text."""
    found = re.findall(r'data-at="([^"]*)"\s+data-state="([^"]+)"[^>]*>(.*?)</article>', html, re.DOTALL)
    return [
        (at, state, re.sub("<[^>]+>", "", re.findall(r"data-markdown>(.*?)</div>", rest, re.DOTALL)[0]).strip())
        for at, state, rest in found
    ]


def test_a_form_of_its_own_makes_a_draft_that_stands_at_its_file(as_alice: Client, run: Run) -> None:
    html = as_alice.get(f"/runs/{run.pk}/comments/", {"file": A}).content.decode()
    form = dict(re.findall(r'name="(seen|file|start|end)"[^>]*value="([^"]*)"', html)) | {"side": "old", "body": "Was it *so*?"}
    response = as_alice.post(f"/runs/{run.pk}/comments/", form | {"start": "2", "end": "3", "seen": unescape(form["seen"])})
    made = Comment.objects.get()
    assert response["Location"] == f"/runs/{run.pk}/changes/?file={A}#comment-{made.pk}"
    html = page(as_alice, run)
    assert comments(html) == [(f"{A}-L3", "draft", "Was it so?")]
    assert f'href="/runs/{run.pk}/changes/?&amp;file={A}#{A}-L3">lines 2–3 before the change<' in html
    assert '<pre class="quote" tabindex="0" aria-label="The lines as they were">two\nthree</pre>' in html
    assert "1 draft<" in html


def test_scripts_get_the_comments_of_the_file_and_the_list(as_alice: Client, run: Run) -> None:
    response = as_alice.post(f"/runs/{run.pk}/comments/", fields(as_alice, run), headers=SCRIPT)
    html = response.content.decode()
    assert "<html" not in html
    assert f'id="{A}-comments"' in html
    assert comments(html) == [(f"{A}-R2", "draft", "Why?")]
    assert "1 draft<" in html
    made = Comment.objects.get()
    html = as_alice.post(f"/runs/{run.pk}/comments/{made.pk}", {"body": "Why so?"}, headers=SCRIPT).content.decode()
    assert comments(html) == [(f"{A}-R2", "draft", "Why so?")]
    html = as_alice.post(f"/runs/{run.pk}/comments/{made.pk}/delete", headers=SCRIPT).content.decode()
    assert f'id="{A}-comments"' in html
    assert comments(html) == []
    assert "1 draft<" not in html


@pytest.mark.parametrize("headers", [{}, SCRIPT])
def test_what_cannot_be_saved_comes_back_with_what_was_typed(as_alice: Client, run: Run, headers: dict[str, str]) -> None:
    for change, says in (
        ({"end": "9"}, "The file has 4 lines"),
        ({"body": " "}, "The comment is empty."),
        ({"start": "x"}, "whole number"),
        ({"seen": "forged:x"}, "out of date"),
    ):
        response = as_alice.post(f"/runs/{run.pk}/comments/", fields(as_alice, run, **{"body": "My words"} | change), headers=headers)
        html = response.content.decode()
        assert response.status_code == 422
        assert says in html
        assert ("My words" in html) == ("body" not in change)
    made = write(as_alice, run)
    response = as_alice.post(f"/runs/{run.pk}/comments/{made.pk}", {"body": ""}, headers=headers)
    assert response.status_code == 422
    assert "The comment is empty." in response.content.decode()


def test_nobody_else_can_see_or_touch_them(as_alice: Client, as_bob: Client, run: Run, alice: User, bob: User) -> None:
    made = write(as_alice, run)
    data = fields(as_alice, run)
    for path in ("", "send", f"{made.pk}", f"{made.pk}/delete"):
        assert as_bob.post(f"/runs/{run.pk}/comments/{path}", data).status_code == 404
    assert as_bob.get(f"/runs/{run.pk}/comments/", {"file": A}).status_code == 404
    Comment.objects.update(author=bob)  # of somebody else on alice's run
    assert comments(page(as_alice, run)) == []
    for path in (f"{made.pk}", f"{made.pk}/delete"):
        assert as_alice.post(f"/runs/{run.pk}/comments/{path}", data).status_code == 404
    assert Comment.objects.get().body == "Why?"


def test_what_is_said_is_of_the_file_as_it_was_seen(as_alice: Client, run: Run, workshop: Workshop) -> None:
    data = fields(as_alice, run, start="4", end="4")
    workshop.patch(run.turns.get(), {"a.txt": b"zero\n" + NEW})
    as_alice.post(f"/runs/{run.pk}/comments/", data)
    assert Comment.objects.get().quote == "four"
    assert comments(page(as_alice, run)) == [(f"{A}-R5", "draft", "Why?")]
    workshop.patch(run.turns.get(), {"a.txt": b"zero\none\n"})
    html = page(as_alice, run)
    assert comments(html) == [("", "draft", "Why?")]
    assert ">outdated<" in html


def test_sent_ones_are_answered_by_the_next_turn(as_alice: Client, run: Run, workshop: Workshop) -> None:
    ids = [write(as_alice, run).pk, write(as_alice, run, start="1", end="1", body="Fine.").pk, write(as_alice, run, body="Not yet").pk]
    response = as_alice.post(f"/runs/{run.pk}/comments/send", {"drafts": ids[:2], "message": "Please look:"}, follow=True)
    html = response.content.decode()
    turn = Turn.objects.get(run=run, number=2)
    assert "The comments are sent. They are turn 2 of the run." in html
    assert turn.prompt.startswith("Please look:")
    assert "Not yet" not in turn.prompt
    assert [state for _, state, _ in comments(html)] == ["draft", "waits", "waits"]
    assert f'href="/runs/{run.pk}/turns/2/"' in html
    Turn.objects.filter(pk=turn.pk).update(status=RunStatus.RUNNING)
    assert [state for _, state, _ in comments(page(as_alice, run))] == ["draft", "at work", "at work"]
    Turn.objects.filter(pk=turn.pk).update(status=RunStatus.SUCCEEDED)
    workshop.patch(turn, {"a.txt": b"one\nzwei\nthree\nfour\n"})
    assert comments(page(as_alice, run)) == [("", "draft", "Not yet"), (f"{A}-R1", "answered", "Fine."), ("", "answered", "Why?")]
    Turn.objects.filter(pk=turn.pk).update(status=RunStatus.FAILED)
    assert "turn 2 failed" in page(as_alice, run)


def test_where_lines_are_by_now_is_sent(as_alice: Client, run: Run, workshop: Workshop) -> None:
    ids = [write(as_alice, run).pk, write(as_alice, run, start="4", end="4").pk]
    workshop.patch(run.turns.get(), {"a.txt": b"zero\none\nTWO\nthree\n"})
    as_alice.post(f"/runs/{run.pk}/comments/send", {"drafts": ids, "since": "turn"})
    prompt = Turn.objects.get(run=run, number=2).prompt
    assert "`a.txt`, line 3:" in prompt
    assert "`a.txt`, line 4 of an earlier version, changed since:" in prompt


def test_what_cannot_be_sent_stays_with_the_message(as_alice: Client, run: Run) -> None:
    made = write(as_alice, run)
    response = as_alice.post(f"/runs/{run.pk}/comments/send", {"drafts": [made.pk, made.pk + 1], "message": "My words"})
    html = response.content.decode()
    assert response.status_code == 422
    assert "sent or deleted in the meantime" in html
    assert "My words" in html
    assert not Turn.objects.filter(number=2).exists()
    run.task.archived_at = timezone.now()
    run.task.save()
    response = as_alice.post(f"/runs/{run.pk}/comments/send", {"drafts": [made.pk]})
    assert response.status_code == 422
    assert "The task is archived." in response.content.decode()


def test_files_that_left_the_change_are_not_forgotten(as_alice: Client, run: Run, workshop: Workshop) -> None:
    write(as_alice, run)
    workshop.patch(run.turns.get(), {"a.txt": OLD})
    html = page(as_alice, run)
    assert "1 comment on files that are not part of what is shown" in html
    assert comments(html) == [("", "draft", "Why?")]
    workshop.patch(run.turns.get(), {"b.txt": OLD})
    html = page(as_alice, run)
    assert "No changes" in html
    assert "1 draft<" in html
    assert as_alice.post(f"/runs/{run.pk}/comments/{Comment.objects.get().pk}/delete").status_code == 302
    assert not Comment.objects.exists()


def test_hostile_words_are_shown_as_such(as_alice: Client, run: Run, workshop: Workshop) -> None:
    workshop.patch(run.turns.get(), {"a.txt": "<script>alert(1)</script>\u202e\x1b[31m\n".encode()})
    write(as_alice, run, start="1", end="1", body="<script>alert(2)</script> [x](javascript:alert(3)) \u202e")
    workshop.patch(run.turns.get(), {"a.txt": b"none\n"})
    html = page(as_alice, run)
    assert "<script>alert" not in html
    assert 'href="javascript' not in html
    assert "\u202e" not in re.sub(r"<textarea.*?</textarea>", "", html, flags=re.DOTALL)
    assert "\x1b" not in html


def test_an_open_pull_request_is_there_for_who_would_post_them(as_alice: Client, run: Run) -> None:
    write(as_alice, run)
    PullRequest.objects.create(run=run, number=1, url="https://github.com/acme/shop/pull/1", branch="b")
    response = as_alice.get(f"/runs/{run.pk}/changes/")
    assert response.context["pull"].number == 1
    PullRequest.objects.update(state="merged")
    assert as_alice.get(f"/runs/{run.pk}/changes/").context["pull"] is None


def test_the_runs_page_says_that_there_are_drafts(as_alice: Client, run: Run) -> None:
    link = f'href="/runs/{run.pk}/changes/#drafts"'
    assert link not in as_alice.get(f"/runs/{run.pk}/").content.decode()
    write(as_alice, run)
    html = as_alice.get(f"/runs/{run.pk}/").content.decode()
    assert link in html
    assert "1 draft comment<" in html


def test_more_comments_take_no_more_queries(as_alice: Client, run: Run, django_assert_max_num_queries: Any) -> None:
    for number in range(12):
        write(as_alice, run, body=f"Number {number}")
    as_alice.post(f"/runs/{run.pk}/comments/send", {"drafts": [each.pk for each in Comment.objects.all()[:6]]})
    with django_assert_max_num_queries(20):
        assert len(comments(page(as_alice, run))) == 12
    with django_assert_max_num_queries(30):
        as_alice.post(f"/runs/{run.pk}/comments/{Comment.objects.latest('pk').pk}", {"body": "x"}, headers=SCRIPT)


def test_scripts_are_told_when_comments_stand_otherwise_though_nothing_changed(as_alice: Client, run: Run) -> None:
    draft = write(as_alice, run)

    def known() -> dict[str, str]:
        part = re.search(r'<div id="news".*?</div>', page(as_alice, run), re.DOTALL)
        assert part
        return dict(re.findall(r'name="(seen|said)" value="([^"]*)"', part[0]))

    def news(said: dict[str, str]) -> str:
        response = as_alice.get(f"/runs/{run.pk}/changes/", said, headers=SCRIPT | {"HX-Target": "news"})
        return response.content.decode() if response.status_code == 200 else ""

    assert (known()["said"], news(known())) == ("", "")
    before = known()
    as_alice.post(f"/runs/{run.pk}/comments/send", {"drafts": [draft.pk], "message": ""})
    assert "data-itself" in news(before)
    for status in (RunStatus.STARTING, RunStatus.SUCCEEDED):
        before = known()
        assert news(before) == ""
        Turn.objects.filter(run=run, number=2).update(status=status)
        told = news(before)
        assert "Comments:" in told
        assert f'name="said" value="{before["said"]}"' in told  # so that it is told again until it is shown
        assert "New changes" not in told
    Turn.objects.filter(run=run, number=1).update(status=RunStatus.FAILED)  # of no comment
    assert news(known()) == ""
    assert news({"seen": known()["seen"]}) == ""  # a page whose comments could not be read
