"""The page on which drafts on a run's changes become a review of its pull request."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks.models import Comment, PullRequest
from tests.tasks.github import test_reviewing
from tests.tasks.github.test_pulls import Shop
from tests.tasks.github.test_reviewing import draft, drafts, there
from tests.tasks.web.test_queries import MOST_TO_SHOW

pytestmark = pytest.mark.django_db
server, shop, changed, opened = test_reviewing.server, test_reviewing.shop, test_reviewing.changed, test_reviewing.opened
_long_file = test_reviewing._long_file


def address(shop: Shop) -> str:
    return reverse("run-pull-review", args=[shop.run.pk])


def words(content: bytes) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", content.decode())).split())


def post(client: Client, shop: Shop, **data: Any) -> Any:
    ids = list(Comment.objects.drafts(run=shop.run, author=shop.alice).values_list("pk", flat=True))
    return client.post(address(shop), {"drafts": ids, **data}, follow=True)


def test_it_says_what_becomes_of_each_and_posts_it(as_alice: Client, opened: Shop) -> None:
    draft(opened, "On <b>its</b> line.")
    draft(opened, "Elsewhere.", path="long.txt", start=15)
    page = as_alice.get(address(opened))
    assert "These lines are not in the pull request's diff." in words(page.content)
    assert "1 of 2 stands in the review's text" in words(page.content)
    assert "posted as alice-gh" in words(page.content)
    assert "On &lt;b&gt;its&lt;/b&gt; line." in page.content.decode()
    done = post(as_alice, opened, summary="So far.")
    assert done.redirect_chain == [(reverse("run-changes", args=[opened.run.pk]), 302)]
    assert "The review is posted." in words(done.content)
    [found] = there(opened)
    assert f'href="{found["html_url"]}"' in done.content.decode()
    assert (len(found["comments"]), found["body"].startswith("So far.\n\n**`long.txt`, line 15**")) == (1, True)


def test_what_was_unticked_stays_a_draft(as_alice: Client, opened: Shop) -> None:
    first = draft(opened, "This.")
    draft(opened, "Not this.", start=2)
    post(as_alice, opened, drafts=[first.pk])
    assert drafts(opened) == ["Not this."]


def test_what_is_not_published_is_said_with_the_way_out(as_alice: Client, opened: Shop) -> None:
    draft(opened)
    assert "newest changes" not in words(as_alice.get(address(opened)).content)
    opened.change({"shop.py": "price = 3\n"}, turn=2)
    page = as_alice.get(address(opened)).content
    assert "does not have the newest changes yet" in words(page)
    assert f'href="{reverse("run-pull", args=[opened.run.pk])}"' in page.decode()


def test_what_was_typed_is_there_again_when_it_fails(as_alice: Client, opened: Shop) -> None:
    kept, left = draft(opened, "Keep."), draft(opened, "Leave.", start=2)
    opened.server.fault("/reviews$", method="POST", status=403, body={"message": "Must have <b>write</b> access"})
    page = post(as_alice, opened, drafts=[kept.pk], summary="So far.")
    assert page.status_code == 422
    assert "Must have &lt;b&gt;write&lt;/b&gt; access" in page.content.decode()
    assert "So far.</textarea>" in page.content.decode()
    ticked = re.findall(r'value="(\d+)"\s+checked', page.content.decode())
    assert ticked == [str(kept.pk)]
    assert (str(left.pk), drafts(opened)) != (ticked[0], [])


def test_it_is_there_again_while_github_is_away(as_alice: Client, opened: Shop) -> None:
    draft(opened, "Keep.")
    opened.server.fault("/", status=502, times=None)
    page = post(as_alice, opened, summary="So far.")
    assert page.status_code == 422
    assert "GitHub has trouble at the moment" in words(page.content)
    assert ("So far.</textarea>" in page.content.decode(), "Keep." in page.content.decode()) == (True, True)


def test_when_lines_are_refused_all_can_go_into_the_text(as_alice: Client, opened: Shop) -> None:
    draft(opened)
    assert "as_text" not in as_alice.get(address(opened)).content.decode()
    said = {"message": "Unprocessable Entity", "errors": ["Line could not be resolved"]}
    opened.server.fault("/reviews$", method="POST", status=422, body=said)
    page = post(as_alice, opened)
    assert (page.status_code, 'name="as_text"' in page.content.decode()) == (422, True)
    post(as_alice, opened, as_text="on")
    assert (there(opened)[0]["comments"], drafts(opened)) == ([], [])


def test_it_is_offered_with_the_drafts_while_the_pull_request_is_open(as_alice: Client, opened: Shop) -> None:
    changes = reverse("run-changes", args=[opened.run.pk])
    assert address(opened) not in as_alice.get(changes).content.decode()
    draft(opened)
    assert address(opened) in as_alice.get(changes).content.decode()
    PullRequest.objects.update(state="merged")
    assert address(opened) not in as_alice.get(changes).content.decode()
    assert "is merged" in words(as_alice.get(address(opened), follow=True).content)


def test_it_is_nobody_elses(as_bob: Client, opened: Shop) -> None:
    draft(opened)
    assert as_bob.get(address(opened)).status_code == as_bob.post(address(opened)).status_code == 404


def test_the_number_of_queries_does_not_grow_with_the_drafts(as_alice: Client, opened: Shop) -> None:
    for _ in range(20):
        draft(opened)
    with CaptureQueriesContext(connection) as queries:
        assert as_alice.get(address(opened)).status_code == 200
    assert len(queries) <= MOST_TO_SHOW
