"""What somebody has drafted on a run's changes becomes one review of its pull request, once, whatever dies on the way."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from tasks import comments
from tasks.comments import Lines, Sides
from tasks.errors import AppError, Conflict, InvalidInput
from tasks.github import jobs, pulls, reviewing, reviews
from tasks.github_api.errors import NotFoundOnGitHub, PermissionMissing, RateLimited, Refused, TokenRefused, Unavailable
from tasks.models import Comment, PullRequest, PullReview
from tasks.review.diffs import files
from tasks.review.trees import Change
from tests.tasks.github import test_pulls
from tests.tasks.github.test_pulls import Shop

pytestmark = pytest.mark.django_db
server, shop = test_pulls.server, test_pulls.shop
LINES = [f"line {number}\n" for number in range(1, 41)]
SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _long_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(test_pulls.FILES, "long.txt", "".join(LINES))


@pytest.fixture
def changed(shop: Shop, settings: Any) -> Shop:
    """With a run that has changed all of one file, and lines 2 and 30 of another."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    shop.change(
        {"shop.py": "price = 2\nshipping = 0\n", "long.txt": "".join(["line 1\n", "second\n", *LINES[2:29], "30th\n", *LINES[30:]])}
    )
    return shop


@pytest.fixture
def opened(changed: Shop) -> Shop:
    changed.opened()
    return changed


def draft(shop: Shop, body: str = "Why?", *, path: str = "shop.py", side: str = "new", start: int = 1, end: int = 0) -> Comment:
    patch = shop.run.patches.latest("pk")
    change = next(file for file in Change(shop.run.task, None, patch).ask(files) if file.path == path)
    sides = Sides(change.anchor, path, change.change.old_path, change.change.old_blob, change.change.new_blob)
    return comments.draft(run=shop.run, by=shop.alice, sides=sides, side=side, lines=Lines(start, end or start), body=body)


def post(shop: Shop, **options: Any) -> PullReview:
    ids = [one.pk for one in Comment.objects.drafts(run=shop.run, author=shop.alice)]
    return reviewing.post(run=shop.run, by=shop.alice, **{"ids": ids, **options})


def pull_of(shop: Shop) -> PullRequest:
    return PullRequest.objects.get(run=shop.run)


def there(shop: Shop) -> list[dict[str, Any]]:
    return shop.server.reviews(shop.name, pull_of(shop).number)


def where(review: dict[str, Any]) -> set[tuple[Any, ...]]:
    return {(one["path"], one["side"], one["start_line"], one["line"], one["body"]) for one in review["comments"]}


def drafts(shop: Shop) -> list[str]:
    return [one.body for one in Comment.objects.drafts(run=shop.run, author=shop.alice)]


# --- what is posted -----------------------------------------------------------------------------------------------------


def test_drafts_become_one_review_on_their_lines(opened: Shop) -> None:
    draft(opened, "Why 2, @bob?")
    draft(opened, "It was 1.", side="old")
    draft(opened, "Both?", start=1, end=2)
    review = post(opened, summary=" Nearly there. ")
    [found] = there(opened)
    assert (found["state"], found["user"]["login"], found["commit_id"]) == ("COMMENTED", "alice-gh", pull_of(opened).head_sha)
    assert found["body"] == f"Nearly there.\n\n{review.mark}"
    assert where(found) == {
        ("shop.py", "LEFT", None, 1, "It was 1."),
        ("shop.py", "RIGHT", 1, 2, "Both?"),
        ("shop.py", "RIGHT", None, 1, "Why 2, @bob?"),
    }
    assert (review.url, review.github_id) == (found["html_url"], found["id"])
    assert (set(Comment.objects.values_list("review", flat=True)), drafts(opened)) == ({review.url}, [])


def test_what_is_not_in_the_diff_stands_in_the_text_with_what_it_is_about(opened: Shop) -> None:
    draft(opened, "Here.", path="long.txt", start=30)
    draft(opened, "And there?", path="long.txt", start=15, end=16)
    [far, near] = sorted(reviewing.offer(run=opened.run, by=opened.alice).comments, key=lambda one: one.comment.start_line)
    assert (near.place is not None, far.place, far.why_not) == (True, None, "These lines are not in the pull request's diff.")
    review = post(opened)
    [found] = there(opened)
    assert where(found) == {("long.txt", "RIGHT", None, 30, "Here.")}
    assert found["body"] == f"**`long.txt`, lines 15–16**\n\n```\nline 15\nline 16\n```\n\nAnd there?\n\n{review.mark}"


def test_without_words_it_says_what_it_is_about(opened: Shop) -> None:
    draft(opened)
    post(opened)
    assert there(opened)[0]["body"].startswith(f"Comments on [these changes](https://code.example.org/runs/{opened.run.pk}/).")


def test_lines_are_found_where_the_base_branch_has_moved_them(changed: Shop) -> None:
    draft(changed, "Why?", path="long.txt", start=30)
    draft(changed, "It was fine.", path="long.txt", side="old", start=29, end=30)
    changed.server.push(changed.name, "main", {"long.txt": "".join(["0\n", "0\n", *LINES[:20], "0\n", *LINES[20:]])})
    changed.opened()
    offer = reviewing.offer(run=changed.run, by=changed.alice)
    assert all(one.is_moved for one in offer.comments)
    post(changed)
    assert where(there(changed)[0]) == {
        ("long.txt", "RIGHT", None, 33, "Why?"),
        ("long.txt", "LEFT", 32, 33, "It was fine."),
    }


def test_what_was_not_published_yet_stands_in_the_text(opened: Shop) -> None:
    assert not opened.change({"other.py": "x = 2\n", "shop.py": "price = 3\nshipping = 0\n"}, turn=2).secrets_found
    draft(opened, "2?", path="other.py")
    draft(opened, "3?")
    draft(opened, "0?", start=2)
    offer = reviewing.offer(run=opened.run, by=opened.alice)
    assert offer.is_behind
    assert [one.why_not for one in offer.comments] == [
        "The pull request does not change this file.",
        "These lines are not in the pull request's diff.",
        "",
    ]
    post(opened)
    assert where(there(opened)[0]) == {("shop.py", "RIGHT", None, 2, "0?")}
    assert "2?" in there(opened)[0]["body"]


def test_after_somebody_else_has_pushed_it_is_still_on_what_was_published(opened: Shop) -> None:
    published = pull_of(opened).head_sha
    opened.server.push(opened.name, opened.run.branch, {"shop.py": "price = 9\n"})
    draft(opened)
    post(opened)
    assert (there(opened)[0]["commit_id"], len(there(opened)[0]["comments"])) == (published, 1)


def test_secrets_in_what_is_quoted_stay_here(opened: Shop) -> None:
    variable = opened.run.task.repo.variables.model(repo=opened.run.task.repo, name="KEY", is_secret=True, phase="setup")
    variable.value = SECRET
    variable.save()
    opened.change({"other.py": f"x = '{SECRET}'\n"}, turn=2)
    draft(opened, "No!", path="other.py")
    post(opened)
    assert SECRET not in there(opened)[0]["body"]
    assert "x = '•••'" in there(opened)[0]["body"]


def test_only_what_was_chosen_is_posted(opened: Shop) -> None:
    chosen = draft(opened, "This.")
    draft(opened, "Not this.", start=2)
    post(opened, ids=[chosen.pk])
    assert [one["body"] for one in there(opened)[0]["comments"]] == ["This."]
    assert drafts(opened) == ["Not this."]


# --- once ---------------------------------------------------------------------------------------------------------------


def test_a_repeat_posts_nothing_and_gives_the_same(opened: Shop) -> None:
    ids = [draft(opened).pk]
    assert post(opened, ids=ids) == post(opened, ids=ids)
    assert len(there(opened)) == 1


def test_nobody_posts_beside_another(opened: Shop) -> None:
    draft(opened)
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with reviewing._alone(opened.run):
            held.set()
            go.wait(20)
        connection.close()

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert held.wait(20)
        with pytest.raises(Conflict, match="right now"):
            post(opened)
    finally:
        go.set()
        other.join()
    assert there(opened) == []


def test_an_answer_that_was_lost_is_looked_for(opened: Shop) -> None:
    draft(opened)
    opened.server.fault("/reviews$", method="POST", loses=True)
    assert post(opened).url == there(opened)[0]["html_url"]
    assert drafts(opened) == []


def test_who_died_before_it_was_written_down_has_posted_once(opened: Shop) -> None:
    ids = [draft(opened).pk]
    opened.server.fault("/reviews$", method="POST", loses=True)
    opened.server.fault("/reviews", method="GET", status=502)
    with pytest.raises(Unavailable, match="looked for"):
        post(opened)
    assert (drafts(opened), PullReview.objects.get().url) == (["Why?"], "")
    assert post(opened, ids=ids).url == there(opened)[0]["html_url"]
    assert len(there(opened)) == 1


def test_what_github_never_got_is_posted_when_it_cannot_arrive_any_more(opened: Shop) -> None:
    draft(opened)
    opened.server.fault("/reviews$", method="POST", drops=True)
    with pytest.raises(Unavailable, match="drafts stay"):
        post(opened)
    with pytest.raises(Conflict, match="in a minute"):
        post(opened)
    PullReview.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    post(opened)
    assert (len(there(opened)), PullReview.objects.count()) == (1, 1)


@pytest.mark.parametrize("is_there", [True, False])
def test_what_became_of_it_is_found_out_without_anybody(opened: Shop, is_there: bool) -> None:
    draft(opened)
    opened.server.fault("/reviews$", method="POST", loses=is_there, drops=not is_there)
    opened.server.fault("/reviews", method="GET", status=502)
    with pytest.raises(Unavailable):
        post(opened)
    jobs.settle_reviews()
    assert drafts(opened) == ["Why?"]  # a moment ago
    PullReview.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    jobs.settle_reviews()
    assert (drafts(opened), PullReview.objects.count(), len(there(opened))) == (([], 1, 1) if is_there else (["Why?"], 0, 0))


# --- what is in the way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "error", "words"),
    [
        (401, "Bad credentials", TokenRefused, "Connect your GitHub account again"),
        (403, "Resource not accessible by personal access token", PermissionMissing, "does not allow that"),
        (403, "You have exceeded a secondary rate limit", RateLimited, "answers again at"),
        (404, "Not Found", NotFoundOnGitHub, "who has access"),
        (422, ["User can only have one pending review per pull request"], Refused, "Submit or discard it there"),
        (422, ["Line could not be resolved"], reviewing.LinesRefused, "all comments in the review's text"),
        (422, ["The commit_id is not part of the pull request"], Refused, "Update the pull request"),
    ],
)
def test_what_github_refuses_leaves_the_drafts(opened: Shop, status: int, said: Any, error: type[AppError], words: str) -> None:
    draft(opened)
    body = {"message": "Unprocessable Entity", "errors": said} if isinstance(said, list) else {"message": said}
    opened.server.fault("/reviews$", method="POST", status=status, body=body)
    with pytest.raises(error, match=words):
        post(opened)
    assert (drafts(opened), PullReview.objects.count(), there(opened)) == (["Why?"], 0, [])


def test_where_lines_are_refused_all_can_stand_in_the_text(opened: Shop) -> None:
    draft(opened)
    post(opened, as_text=True)
    [found] = there(opened)
    assert found["comments"] == []
    assert "**`shop.py`, line 1**\n\n```\nprice = 2\n```\n\nWhy?" in found["body"]


def test_what_cannot_be_posted_says_why(opened: Shop) -> None:
    offer = lambda: reviewing.offer(run=opened.run, by=opened.alice)  # noqa: E731
    with pytest.raises(Conflict, match="no drafts"):
        offer()
    one = draft(opened)
    with pytest.raises(InvalidInput, match="10,001 characters"):
        post(opened, summary="x" * 10_001)
    for ids in ([], [one.pk, one.pk + 1]):
        with pytest.raises(Conflict, match="Look at the list again"):
            post(opened, ids=ids)
    opened.change({"other.py": "x = 2\n"}, turn=2)
    pulls.update_pull_request(run=opened.run, by=opened.alice)
    with pytest.raises(Conflict, match="being updated"):
        offer()
    PullRequest.objects.update(state="merged")
    for ask in (offer, lambda: post(opened)):
        with pytest.raises(Conflict, match="is merged"):
            ask()
    assert drafts(opened) == ["Why?"]


def test_more_than_github_takes_is_refused_before(opened: Shop) -> None:
    for _ in range(7):
        draft(opened, "x" * 10_000)
    with pytest.raises(InvalidInput, match="GitHub takes 65,536"):
        post(opened, as_text=True)
    assert PullReview.objects.count() == 0


# --- and then -----------------------------------------------------------------------------------------------------------


def test_what_came_from_here_is_not_taken_for_somebodys_wish(opened: Shop) -> None:
    draft(opened, "Mine.")
    post(opened, summary="Look at this.")
    [own] = reviews.remarks(run=opened.run, by=opened.alice)
    assert (own.text, own.is_own, reviews.of_others([own])) == ("Mine.", True, [own])  # nothing else is there to be addressed
    opened.server.add_review_comment(opened.name, pull_of(opened).number, "admin", "shop.py", 1, "Theirs.")
    found = reviews.remarks(run=opened.run, by=opened.alice)
    assert [(one.text, one.is_own) for one in found] == [("Theirs.", False), ("Mine.", True)]
    assert [one.text for one in reviews.of_others(found)] == ["Theirs."]
    comment = there(opened)[0]["comments"][0]["id"]
    opened.server.add_review_comment(opened.name, pull_of(opened).number, "admin", "shop.py", 1, "Yes, do.", reply_to=comment)
    assert [one.text for one in reviews.of_others(reviews.remarks(run=opened.run, by=opened.alice))] == ["Mine.", "Theirs."]
