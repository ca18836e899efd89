"""The files of a run and what it left to be kept: trees, live workspaces, and bytes that can do nothing."""

from __future__ import annotations

import asyncio
import html as htmls
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from sandboxes.base import Entry, EntryKind
from sandboxes.errors import SandboxError, SandboxGone
from tasks.models import Artifact, PatchKind, Run, RunStatus, Sandbox, Turn, User
from tasks.running import backends, browsing
from tasks.web import files
from tests.tasks.review.conftest import Workshop
from tests.tasks.running.fake import FakeBackend, FakeBox

MakeRun = Callable[..., Run]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
BASE: dict[str, bytes | None] = {"src/app.py": b"def f():\n    return 1\n", "README.md": b"# Hello\n", "gone.txt": b"x\n"}


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def run(workshop: Workshop, make_run: MakeRun) -> Run:
    """A run that was over after a turn in which it changed a file, and added and removed one."""
    run = make_run(workshop.base(BASE), status=RunStatus.SUCCEEDED)
    workshop.patch(run.turns.get(), {"src/app.py": b"def f():\n    return 2\n", "src/new.txt": b"new\n", "gone.txt": None})
    return run


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> FakeBox:
    backend = FakeBackend("local")
    monkeypatch.setattr(backends, "backend", {"local": backend}.__getitem__)
    return backend.make("x")


@pytest.fixture
def live(run: Run, box: FakeBox, settings: Settings) -> Run:
    """The same, at work in a second turn."""
    Run.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING)
    Turn.objects.create(run=run, number=2, prompt="more", status=RunStatus.RUNNING)
    Sandbox.objects.create(run=run, generation=1, backend="local", host=settings.HOST_NAME, ref=box.ref, status="live")
    box.workspace = {"src/app.py": b"live\n", "node_modules/x.js": b"ignored\n"}
    return run


def address(run: Run, part: str = "") -> str:
    return f"/runs/{run.pk}/files/{part}"


def text(client: Client, run: Run, **query: Any) -> str:
    response = client.get(address(run), query)
    assert response.status_code == 200, response.content
    return response.content.decode()


def names(page: str) -> list[str]:
    """The entries of a listing, in its order."""
    rows = page.partition('class="files listing"')[2].partition("</table>")[0].split("<tr data-kind=")[1:]
    return [f"{row[1:].partition(chr(34))[0]} {htmls.unescape(row.partition('path=')[2].partition(chr(34))[0])}" for row in rows]


# --- after a turn ---


def test_a_folder_shows_what_the_turn_left_in_it(as_alice: Client, run: Run) -> None:
    page = text(as_alice, run)
    assert names(page) == ["folder src%2F", "file README.md"]
    assert "After turn 1" in page
    assert "8\xa0bytes" in page
    assert names(text(as_alice, run, path="src/")) == ["file src%2Fapp.py", "file src%2Fnew.txt"]


def test_a_file_has_numbered_lines_in_colour(as_alice: Client, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "HIGHLIGHT_MS", 60_000)
    page = text(as_alice, run, path="src/app.py")
    assert "<td id=L2><a href=#L2>2</a>" in page
    assert "<i class=k>return</i>" in page
    assert "<i class=m>2</i>" in page
    assert "2 lines" in page


def test_it_can_be_seen_as_of_any_turn_and_before(as_alice: Client, run: Run, workshop: Workshop) -> None:
    turn = Turn.objects.create(run=run, number=2, prompt="more", status=RunStatus.SUCCEEDED)
    workshop.patch(turn, {"second.txt": b"2\n"})
    assert "file second.txt" in names(text(as_alice, run))
    assert "file second.txt&at=1" not in names(text(as_alice, run, at="1"))
    assert names(text(as_alice, run, at="0")) == ["folder src%2F&at=0", "file README.md&at=0", "file gone.txt&at=0"]
    page = text(as_alice, run, at="1")
    for label in ("After turn 2", "After turn 1", "Before the run"):
        assert label in page


@pytest.mark.parametrize(
    "path", ["none", "src", "src/app.py/", "README.md/x", "../x", "/etc/passwd", "src//app.py", ".", "a%00", "x" * 5000]
)
def test_what_is_not_there_is_404(as_alice: Client, run: Run, path: str) -> None:
    assert as_alice.get(address(run), {"path": path}).status_code == 404
    assert as_alice.get(address(run, "raw"), {"path": path}).status_code == 404


def test_only_its_owner_sees_it(client: Client, bob: Any, run: Run) -> None:
    kept = Artifact.objects.create(run=run, turn=run.turns.get(), path="a", content=b"x", size=1, sha256="0" * 64)
    places = [address(run), address(run, "raw?path=README.md"), f"/runs/{run.pk}/artifacts/{kept.pk}"]
    assert all(client.get(place).status_code == 302 for place in places)
    client.force_login(bob)
    assert [client.get(place).status_code for place in places] == [404] * 3


HOSTILE = ["<b>&\"'.txt", "new\nline", "100%41", "latin\udce9.txt", "bidi\u202e.txt", ":(top)x", "-rf", "a?b#c"]


def test_any_name_can_be_followed_and_nothing_in_it_executes(as_alice: Client, workshop: Workshop, make_run: MakeRun) -> None:
    run = make_run(workshop.base({}), status=RunStatus.SUCCEEDED)
    for name in HOSTILE:
        (workshop.folder / "d").mkdir(exist_ok=True)
        (workshop.folder / "d" / name).write_bytes(os.fsencode(name))
    workshop.patch(run.turns.get(), {})
    page = text(as_alice, run, path="d/")
    assert "<b>&" not in page
    assert "\u202e" not in page
    found = [entry.removeprefix("file ") for entry in names(page)]
    assert len(found) == len(HOSTILE)
    for path in found:
        assert as_alice.get(f"{address(run)}?path={path}").status_code == 200
        response = as_alice.get(f"{address(run, 'raw')}?path={path}")
        assert os.fsdecode(response.content) in HOSTILE


def test_links_and_submodules_are_shown_and_not_followed(as_alice: Client, workshop: Workshop, make_run: MakeRun) -> None:
    run = make_run(workshop.base({"a": b"x"}), status=RunStatus.SUCCEEDED)
    (workshop.folder / "to").symlink_to("/etc/passwd")
    workshop.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/sub")
    workshop.patch(run.turns.get(), {})
    page = text(as_alice, run)
    assert "→ /etc/passwd" in page
    assert "A link to /etc/passwd. It is not followed." in text(as_alice, run, path="to")
    assert as_alice.get(address(run, "raw"), {"path": "to"}).content == b"/etc/passwd"


def test_a_large_folder_comes_in_pages(as_alice: Client, workshop: Workshop, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_ENTRIES", 2)
    run = make_run(workshop.base({f"{n}": b"" for n in range(5)}), status=RunStatus.SUCCEEDED)
    page = text(as_alice, run)
    assert names(page) == ["file 0", "file 1"]
    assert "3 more" in page
    page = text(as_alice, run, first="2")
    assert names(page) == ["file 2", "file 3"]
    assert "1 more" in page
    assert "Entries before these" in page
    assert names(text(as_alice, run, first="99")) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.bin", b"a\0b", "It is no text."),
        ("big.txt", b"line\n" * 300_000, "It is too large to be shown here."),
        ("empty", b"", "This file is empty."),
        ("long.txt", b"x" * 100_000, "98,000 more characters"),
        ("many.txt", b"x\n" * 30_000, "The first 20000 of 30000 lines."),
        ("esc.txt", b"\x1b[31m<script>", "\\x1b"),
        ("shot.png", PNG, "<img "),
    ],
)
def test_a_file_that_is_no_plain_text(
    as_alice: Client, workshop: Workshop, make_run: MakeRun, name: str, content: bytes, said: str
) -> None:
    run = make_run(workshop.base({name: content}), status=RunStatus.SUCCEEDED)
    page = text(as_alice, run, path=name)
    assert said in page
    assert "<script>" not in page.partition("one-file")[2]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", PNG, "image/png"),
        ("a.png", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("a.html", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("a.svg", b"<svg onload='alert(1)'/>", "text/plain; charset=utf-8"),
    ],
)
def test_bytes_are_locked_in(as_alice: Client, workshop: Workshop, make_run: MakeRun, name: str, content: bytes, kind: str) -> None:
    run = make_run(workshop.base({name: content}), status=RunStatus.SUCCEEDED)
    turn = run.turns.get()
    kept = Artifact.objects.create(run=run, turn=turn, path=f"x/{name}", content=content, size=len(content), sha256="0" * 64)
    for place in (f"{address(run, 'raw')}?path={name}", f"/runs/{run.pk}/artifacts/{kept.pk}"):
        response = as_alice.get(place)
        assert response.content == content
        assert response["Content-Type"] == kind
        assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Cross-Origin-Resource-Policy"] == "same-origin"
        joint = "&" if "?" in place else "?"
        assert as_alice.get(f"{place}{joint}download=1")["Content-Disposition"] == f'attachment; filename="{name}"'


def test_without_a_mirror_it_says_so(as_alice: Client, make_run: MakeRun) -> None:
    run = make_run(status=RunStatus.SUCCEEDED)
    assert "These files cannot be shown" in text(as_alice, run)
    assert as_alice.get(address(run, "raw"), {"path": "a"}).status_code == 503


# --- while a turn is at work ---


def test_a_live_workspace_shows_what_no_checkpoint_has(as_alice: Client, live: Run) -> None:
    page = text(as_alice, live)
    assert names(page) == ["folder node_modules%2F", "folder src%2F"]
    assert "As it is now" in page
    assert "ignored files too" in page
    assert "live" in text(as_alice, live, path="src/app.py")
    assert as_alice.get(address(live, "raw"), {"path": "node_modules/x.js"}).content == b"ignored\n"
    assert as_alice.get(address(live), {"path": "none"}).status_code == 404
    assert names(text(as_alice, live, at="1")) == ["folder src%2F&at=1", "file README.md&at=1"]


@pytest.mark.parametrize("error", [SandboxGone("gone"), SandboxError("There is no such request.")])
def test_a_sandbox_that_does_not_answer_gives_way_to_the_checkpoint(
    as_alice: Client, live: Run, box: FakeBox, workshop: Workshop, error: SandboxError
) -> None:
    workshop.patch(live.turns.get(number=2), {"checked.txt": b"x\n"}, PatchKind.CHECKPOINT)
    box.backend.errors["look"] = error
    page = text(as_alice, live)
    assert "does not answer just now" in page
    assert "last checkpoint" in page
    assert "file checked.txt&at=2" in names(page)


@pytest.mark.parametrize("name", ["\ud800", "a/b", "", "\0", 7])
def test_an_answer_that_makes_no_sense_gives_way_too(
    as_alice: Client, live: Run, box: FakeBox, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    async def look(*args: Any, **more: Any) -> Any:
        return [Entry(name, EntryKind.FILE)], 1

    monkeypatch.setattr(box, "look", look)
    page = text(as_alice, live)
    assert "makes no sense" in page
    assert "file README.md&at=1" in names(page)


def test_few_look_at_one_time_and_all_others_see_the_checkpoint(as_alice: Client, live: Run, box: FakeBox, alice: User) -> None:
    """Of one user, and of all in a process, so that slow sandboxes do not take all threads of the pages."""
    entered, over = threading.Barrier(browsing.MOST_LOOKS + 1), threading.Event()

    async def look(*args: Any, **more: Any) -> tuple[list[Entry], int]:
        await asyncio.to_thread(entered.wait, 20)
        await asyncio.to_thread(over.wait, 20)
        return [], 0

    row = live.sandboxes.get()
    lookers = [User(pk=1000 + number // browsing.MOST_OF_USER) for number in range(browsing.MOST_LOOKS)]
    lookers[0] = alice
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(browsing.MOST_LOOKS) as threads:
        patch.setattr(box, "look", look)
        patch.setattr(browsing, "PATIENCE_S", 20.0)
        looks = [threads.submit(browsing.entries, row, "", by=by, first=0, most=1) for by in lookers]
        entered.wait(20)
        try:
            page = text(as_alice, live)
            assert "Too many people are looking into workspaces just now." in page
            assert "file README.md&at=1" in names(page)
            raw = as_alice.get(address(live, "raw"), {"path": "src/app.py"})
            assert (raw.status_code, "Try again in a moment." in raw.content.decode()) == (503, True)
            with pytest.raises(browsing.Unseen, match="You are looking into 2 workspaces"):
                browsing.entries(row, "", by=lookers[-1], first=0, most=1)
        finally:
            over.set()
        assert [look.result(20) for look in looks] == [([], 0)] * browsing.MOST_LOOKS
    assert "As it is now" in text(as_alice, live)


def test_one_that_is_slow_is_not_waited_for(as_alice: Client, live: Run, box: FakeBox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleeps(*args: Any, **more: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(browsing, "PATIENCE_S", 0.05)
    monkeypatch.setattr(box, "look", sleeps)
    assert "does not answer just now" in text(as_alice, live)


def test_a_sandbox_elsewhere_or_asleep_is_not_asked(as_alice: Client, live: Run, box: FakeBox) -> None:
    box.backend.errors["look"] = box.backend.errors["connect"] = SandboxGone("It was asked.")
    live.sandboxes.update(host="elsewhere")
    assert "on another machine (elsewhere)" in text(as_alice, live)
    live.sandboxes.update(status="paused")
    page = text(as_alice, live)
    assert "As it is now" not in page
    assert "file README.md" in names(page)


# --- artifacts ---


def test_artifacts_are_listed_with_pictures_and_what_was_left_out(as_alice: Client, run: Run) -> None:
    turn = run.turns.get()
    kept = {"run": run, "turn": turn, "sha256": "0" * 64}
    shot = Artifact.objects.create(path="shots/one.png", content=PNG, size=len(PNG), **kept)
    Artifact.objects.create(path="<i>report.html", content=b"x", size=1, secrets_found=["TOKEN"], **kept)
    lost = Artifact.objects.create(run=run, turn=turn, path="film.mp4", content=b"", size=10**8, left_out="size")
    for page in (text(as_alice, run), as_alice.get(f"/runs/{run.pk}/", {"tab": "artifacts"}).content.decode()):
        assert f'<img src="/runs/{run.pk}/artifacts/{shot.pk}"' in page
        assert "&lt;i&gt;report.html" in page
        assert "<code>TOKEN</code>" in page
        assert "larger than 10 MB" in page
        assert f"artifacts/{lost.pk}" not in page
    assert as_alice.get(f"/runs/{run.pk}/artifacts/{lost.pk}").status_code == 404
    assert as_alice.get(f"/runs/{run.pk}/artifacts/{shot.pk + 99}").status_code == 404


def test_an_artifact_that_is_neither_text_nor_picture_is_a_download(as_alice: Client, run: Run) -> None:
    zipped = Artifact.objects.create(run=run, turn=run.turns.get(), path="a.zip", content=b"PK\0\0", size=4, sha256="0" * 64)
    assert as_alice.get(f"/runs/{run.pk}/artifacts/{zipped.pk}")["Content-Disposition"].startswith("attachment")


def test_pages_lead_to_the_files(as_alice: Client, run: Run) -> None:
    assert f'href="{address(run)}"' in as_alice.get(f"/runs/{run.pk}/").content.decode()
    assert f'href="{address(run)}"' in as_alice.get(f"/runs/{run.pk}/changes/").content.decode()
    assert "No artifacts" in as_alice.get(f"/runs/{run.pk}/", {"tab": "artifacts"}).content.decode()
