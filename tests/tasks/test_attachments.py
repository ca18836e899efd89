"""Files of prompts: what is stored under which name, what is refused, and which turn finds which file where."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import attachments, services
from tasks.attachments import clean_name, store
from tasks.errors import Conflict, InvalidInput, NotAllowed
from tasks.models import Attachment, Run, RunStatus, Sandbox, Turn, User
from tasks.running import jobs, specs
from tasks.running.attachments import FOLDER, numbered, paths

pytestmark = pytest.mark.django_db
MakeRun = Callable[..., Run]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def file(name: str = "notes.txt", content: bytes = b"notes", content_type: str = "text/html") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, content_type=content_type)


def attach(by: User, *names: str) -> list[Attachment]:
    return store(by=by, files=[file(name) for name in names])


def follow_up(run: Run, *names: str) -> Turn:
    """A follow-up with files, begun."""
    turn = services.send_follow_up(run=run, by=run.task.owner, prompt="true", attachments=attach(run.task.owner, *names))
    Turn.objects.filter(pk=turn.pk).update(started_at=timezone.now())
    return turn


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("notes.txt", "notes.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\report.pdf", "report.pdf"),
        (".env", "env"),
        ("--rf.sh", "rf.sh"),
        ("a\nb\tc\x00\x1b.txt", "a b c.txt"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("Übersicht für  Zoë.txt", "Übersicht für Zoë.txt"),
        ("U\u0308bersicht.txt", "\u00dcbersicht.txt"),
        ("a" * 200 + ".tar.gz", "a" * 117 + ".gz"),
        ("日" * 120 + ".md", "日" * 65 + ".md"),
        ("name. ", "name"),
    ],
)
def test_names_are_safe_in_any_folder(raw: str, name: str) -> None:
    assert clean_name(raw) == name


@pytest.mark.parametrize("raw", ["", "...", "/", "\u200b", "- -"])
def test_a_file_without_a_name_is_refused(raw: str) -> None:
    with pytest.raises(InvalidInput, match="without a name") as caught:
        clean_name(raw)
    assert caught.value.field == "attachments"


def test_two_of_the_same_name_get_a_number(alice: User) -> None:
    assert [found.name for found in attach(alice, "a.txt", "a.txt", "b", "b", "a.txt")] == ["a.txt", "a 2.txt", "b", "b 2", "a 3.txt"]
    assert numbered("a.txt", {"a.txt", "a 2.txt"}) == "a 3.txt"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("shot.png", PNG, "image/png"),
        ("shot.txt", PNG, "image/png"),
        ("shot.png", b"<script>", "application/octet-stream"),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("a.wav", b"RIFF\0\0\0\0WAVEfmt ", "audio/x-wav"),
        ("page.html", b"<script>", "text/html"),
        ("strange.qqq", b"x", "application/octet-stream"),
    ],
)
def test_what_a_file_is_is_never_taken_from_the_browser(alice: User, name: str, content: bytes, kind: str) -> None:
    (found,) = store(by=alice, files=[file(name, content, content_type="image/gif")])
    assert (found.content_type, found.size, bytes(found.content)) == (kind, len(content), content)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([file(content=b"")], "notes.txt is empty."),
        ([file(f"{n}.txt") for n in range(11)], "These are 11 files; 10 are the most"),
        ([file("big.bin", bytes(10 * 2**20 + 1))], "big.bin has 10.0 MB; 10.0 MB are the most for one file."),
        ([file(f"{n}", bytes(9 * 2**20)) for n in range(3)], "These files have 27.0 MB together; 25.0 MB are the most"),
    ],
)
def test_too_much_is_refused_and_nothing_is_stored(alice: User, files: list[SimpleUploadedFile], sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        store(by=alice, files=[file("good.txt"), *files][-len(files) :])
    assert sentence in caught.value.message
    assert caught.value.field == "attachments"
    with pytest.raises(InvalidInput):
        store(by=alice, files=[file("good.txt"), *files])
    assert not Attachment.objects.exists()


def test_drafts_of_a_user_do_not_fill_the_disk(alice: User, bob: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MOST_DRAFTED", 12)
    attach(alice, "a", "b")
    with pytest.raises(InvalidInput, match="that no prompt has yet"):
        attach(alice, "c")
    attach(bob, "a")


def test_files_of_others_and_files_that_are_gone_are_left_out(alice: User, bob: User) -> None:
    (mine,), (other,) = attach(alice, "a"), attach(bob, "b")
    assert attachments.chosen(by=alice, ids=[str(mine.pk), other.pk, "x", "²", "9" * 30]) == [mine]
    assert attachments.chosen(by=alice, ids=[]) == []


def test_a_follow_up_has_its_files(make_run: MakeRun, alice: User, bob: User) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    turn = follow_up(run, "a.txt", "b.txt")
    assert [found.name for found in turn.attachments.all()] == ["a.txt", "b.txt"]
    with pytest.raises(NotAllowed):
        services.send_follow_up(run=run, by=alice, prompt="true", attachments=attach(bob, "c.txt"))
    gone = attach(alice, "gone.txt")
    attachments.remove(by=alice, attachment=gone[0])
    with pytest.raises(InvalidInput, match="not there any more"):
        services.send_follow_up(run=run, by=alice, prompt="true", attachments=gone)
    assert run.turns.count() == 2


def test_files_stored_one_by_one_are_counted_together(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    many = [found for _ in range(2) for found in attach(alice, *map(str, range(6)))]
    with pytest.raises(InvalidInput, match="These are 12 files"):
        services.send_follow_up(run=run, by=alice, prompt="true", attachments=many)


def test_a_retry_has_the_files_of_the_first_turn(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    run.turns.get().attachments.set(attach(alice, "a.txt"))
    follow_up(run, "b.txt")
    Run.objects.update(status=RunStatus.SUCCEEDED)
    run.refresh_from_db()
    new = services.retry_run(run=run, by=alice)
    assert [found.name for found in new.turns.get().attachments.all()] == ["a.txt"]


# --- where they lie ---


def test_paths_are_the_same_for_the_same_rows_and_never_taken_twice(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    first = run.turns.get()
    Turn.objects.update(started_at=timezone.now())
    (notes,) = attach(alice, "notes.txt")
    first.attachments.set([notes])
    second = follow_up(run, "notes.txt", "other.txt")
    assert list(paths(first)[1]) == [f"{FOLDER}/notes.txt"]
    assert [list(files) for files in (paths(second)[1], paths(second)[2])] == [
        [f"{FOLDER}/notes.txt"],
        [f"{FOLDER}/notes 2.txt", f"{FOLDER}/other.txt"],
    ]
    assert paths(second) == paths(second)
    second.attachments.add(notes)
    assert paths(second)[2][f"{FOLDER}/notes.txt"] == notes.pk


def test_what_was_withdrawn_with_its_prompt_lies_nowhere(make_run: MakeRun, alice: User) -> None:
    run = make_run(status=RunStatus.RUNNING)
    withdrawn = services.send_follow_up(run=run, by=alice, prompt="true", attachments=attach(alice, "a.txt"))
    services.withdraw_follow_up(turn=withdrawn, by=alice)
    third = services.send_follow_up(run=run, by=alice, prompt="true", attachments=attach(alice, "a.txt"))
    assert paths(third) == {3: {f"{FOLDER}/a.txt": third.attachments.get().pk}}


def test_the_agent_learns_where_its_files_are(make_run: MakeRun, alice: User) -> None:
    run = make_run(sandbox=True)
    turn = run.turns.get()
    sandbox = Sandbox.objects.get()
    assert "ASYNCCODE_ATTACHMENTS" not in specs.build(run, turn, sandbox, restores_patch=False).steps[-1].env
    turn.attachments.set(attach(alice, "a.txt"))
    spec = specs.build(run, turn, sandbox, restores_patch=False)
    assert spec.steps[-1].env["ASYNCCODE_ATTACHMENTS"] == FOLDER
    assert spec == specs.build(run, turn, sandbox, restores_patch=False)


# --- what goes again ---


def test_only_a_drafts_file_is_removed(make_run: MakeRun, alice: User, bob: User) -> None:
    draft, kept = attach(alice, "a", "b")
    make_run().turns.get().attachments.set([kept])
    with pytest.raises(NotAllowed):
        attachments.remove(by=bob, attachment=draft)
    with pytest.raises(Conflict):
        attachments.remove(by=alice, attachment=kept)
    attachments.remove(by=alice, attachment=draft)
    attachments.remove(by=alice, attachment=draft)
    assert list(Attachment.objects.all()) == [kept]


def test_drafts_are_forgotten_after_a_day_and_what_a_turn_has_is_not(make_run: MakeRun, alice: User) -> None:
    old, kept = attach(alice, "old", "kept")
    make_run().turns.get().attachments.set([kept])
    Attachment.objects.update(created_at=timezone.now() - timedelta(hours=25))
    (young,) = attach(alice, "young")
    with CaptureQueriesContext(connection) as queries:
        jobs.forget_drafts()
    assert list(Attachment.objects.all()) == [kept, young]
    assert not any('"content"' in query["sql"] for query in queries)
    assert old.name == "old"
