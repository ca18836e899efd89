"""Files of prompts over HTTP: stored at once, shown to their owner only, and never more than bytes to a browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.template.loader import render_to_string
from django.test import Client

from tasks.attachments import store
from tasks.models import Attachment, Run, RunStatus, User

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def upload(client: Client, *files: SimpleUploadedFile) -> tuple[int, str]:
    response = client.post("/attachments/", {"files": list(files)})
    return response.status_code, response.content.decode()


def stored(by: User, name: str = "notes.txt", content: bytes = b"notes") -> Attachment:
    return store(by=by, files=[SimpleUploadedFile(name, content)])[0]


def test_a_file_that_is_chosen_becomes_a_chip(as_alice: Client) -> None:
    status, chip = upload(as_alice, SimpleUploadedFile("a<b>.png", PNG))
    found = Attachment.objects.get()
    assert status == 201
    assert f'name="attachments"\n         value="{found.pk}"'.split() == chip[chip.index('name="attachments"') :].split()[:2]
    assert "a&lt;b&gt;.png" in chip
    assert "<b>" not in chip
    assert f'<img src="/attachments/{found.pk}"' in chip
    assert f'data-remove="/attachments/{found.pk}/remove"' in chip
    assert "<html" not in chip


def test_what_is_refused_is_said_in_a_sentence(as_alice: Client) -> None:
    assert upload(as_alice) == (422, "Choose a file to attach.")
    assert upload(as_alice, SimpleUploadedFile("big", bytes(10 * 2**20 + 1)))[1].startswith("big has 10.0 MB;")
    many = [SimpleUploadedFile(str(n), bytes(9 * 2**20)) for n in range(3)]
    assert upload(as_alice, *many)[1].startswith("These files have 27.0 MB together")
    assert not Attachment.objects.exists()


def test_chips_of_a_draft_come_back(as_alice: Client, alice: User, bob: User) -> None:
    mine, other = stored(alice, "mine.txt"), stored(bob, "other.txt")
    page = as_alice.get("/attachments/", {"ids": [mine.pk, other.pk, "x"]}).content.decode()
    assert "mine.txt" in page
    assert "other.txt" not in page


def test_a_picture_is_shown_and_nothing_else(as_alice: Client, alice: User) -> None:
    shown = as_alice.get(f"/attachments/{stored(alice, 'ü shot.png', PNG).pk}")
    assert (shown.content, shown["Content-Type"]) == (PNG, "image/png")
    assert shown["Content-Disposition"].startswith("inline; filename*=utf-8''")
    for name, content in (("page.html", b"<script>alert(1)</script>"), ("a.svg", b"<svg/>"), ("lie.png", b"<script>")):
        kept = as_alice.get(f"/attachments/{stored(alice, name, content).pk}")
        assert kept["Content-Type"] == "application/octet-stream"
        assert kept["Content-Disposition"] == f'attachment; filename="{name}"'
    for response in (shown, kept):
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert response["Cache-Control"].startswith("private")


def test_somebody_elses_file_is_not_there(as_bob: Client, alice: User) -> None:
    found = stored(alice)
    assert as_bob.get(f"/attachments/{found.pk}").status_code == 404
    assert as_bob.post(f"/attachments/{found.pk}/remove").status_code == 404
    assert Client().get(f"/attachments/{found.pk}").status_code == 302
    assert as_bob.get(f"/attachments/{2**70}").status_code == 404


def test_a_drafts_file_is_removed_and_a_turns_is_not(as_alice: Client, alice: User, make_run: MakeRun) -> None:
    draft, kept = stored(alice), stored(alice)
    make_run().turns.get().attachments.set([kept])
    assert as_alice.get(f"/attachments/{draft.pk}/remove").status_code == 405
    assert as_alice.post(f"/attachments/{draft.pk}/remove", headers={"HX-Request": "true"}).status_code == 204
    assert as_alice.post(f"/attachments/{kept.pk}/remove").status_code == 422
    assert list(Attachment.objects.all()) == [kept]


def test_uploads_take_the_token_of_the_page(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert upload(client, SimpleUploadedFile("a", b"a"))[0] == 403


def test_a_follow_up_takes_stored_files_and_files_that_come_along(as_alice: Client, alice: User, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    first = stored(alice, "first.txt")
    as_alice.post(
        f"/runs/{run.pk}/follow-up", {"prompt": "true", "attachments": [first.pk], "files": [SimpleUploadedFile("second.txt", b"2")]}
    )
    assert [found.name for found in run.turns.get(number=2).attachments.all()] == ["first.txt", "second.txt"]


def test_files_are_not_lost_when_the_prompt_is_refused(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    response = as_alice.post(f"/runs/{run.pk}/follow-up", {"prompt": " ", "files": [SimpleUploadedFile("second.txt", b"2")]})
    assert response.status_code == 422
    assert [found.name for found in response.context["form"].attached] == ["second.txt"]
    page = render_to_string("tasks/attachments.html", {"form": response.context["form"]})
    assert "second.txt" in page


def test_a_file_that_is_gone_keeps_the_rest(as_alice: Client, alice: User, bob: User, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    mine, other = stored(alice, "mine.txt"), stored(bob)
    response = as_alice.post(f"/runs/{run.pk}/follow-up", {"prompt": "true", "attachments": [mine.pk, other.pk]})
    assert response.status_code == 422
    form = response.context["form"]
    assert "not there any more" in form.errors["attachments"][0]
    assert form.attached == [mine]
    assert run.turns.count() == 1


def test_the_include_stands_in_any_form(alice: User) -> None:
    page = render_to_string("tasks/attachments.html", {})
    assert 'type="file"' in page
    page = render_to_string("tasks/attachments.html", {"attachments": [stored(alice, "given.txt")]})
    assert page.count("given.txt</span>") == 1
    assert render_to_string("tasks/turn_attachments.html", {"attachments": []}).strip() == ""
    assert "given.txt" in render_to_string("tasks/turn_attachments.html", {"attachments": Attachment.objects.all()})
