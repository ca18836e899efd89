"""The page of a run's changes, asked as a browser without scripts asks, and as the scripts do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from tasks.models import PatchKind, Run, RunStatus, Task, Turn, User, Viewed
from tasks.review.diffs import anchor
from tasks.web import changes
from tests.tasks.review.conftest import Workshop

Files = dict[str, bytes | None]
MakeRun = Callable[[Files, Files], Run]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
GAP = {"file": anchor("a.txt"), "old": "1", "new": "1", "lines": "1"}
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\x00".encode()


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def changed(workshop: Workshop, make_run: Callable[..., Run]) -> MakeRun:
    """A run whose first turn made `new` of a base commit with `old`."""

    def make(old: Files, new: Files) -> Run:
        run = make_run(workshop.base(old))
        workshop.patch(run.turns.get(), new)
        return run

    return make


def address(run: Run, part: str = "") -> str:
    return f"/runs/{run.pk}/changes/{part}"


def text(client: Client, run: Run, part: str = "", **query: Any) -> str:
    response = client.get(address(run, part), query)
    assert response.status_code == 200, response.content
    return response.content.decode()


def coming(html: str) -> list[str]:
    """The files of the page, and whether each has its lines."""
    found = re.findall(r'data-of="(f[0-9a-f]{8})"\s+data-rows="\d+"\s+(data-loaded)?', html)
    return [f"{name}{' with lines' if rows else ''}" for name, rows in found]


def viewed(html: str) -> str:
    return " ".join(re.findall(r'class="figure">(\d+)</span> (of \d+)', html)[0])


# --- the page ---


def test_the_page_has_a_tree_and_each_file_with_its_lines(as_alice: Client, changed: MakeRun) -> None:
    run = changed({"src/up/a.py": b"x = 1\n"}, {"src/up/a.py": b"x = 2\n", "new <b>.txt": b"hello\n"})
    html = text(as_alice, run)
    a, new = anchor("src/up/a.py"), anchor("new <b>.txt")
    assert coming(html) == [f"{new} with lines", f"{a} with lines"]
    assert "src/up" in html  # one line in the tree
    assert f'href="#{a}"' in html
    assert "new &lt;b&gt;.txt" in html
    assert "<b>.txt" not in html
    assert f"id={a}-R1" in html
    assert "2 files" in html
    assert viewed(html) == "0 of 2"


def test_what_is_too_much_at_once_has_a_link_that_begins_there(as_alice: Client, changed: MakeRun) -> None:
    run = changed({}, {f"{n}.txt": b"line\n" * 150 for n in range(4)})
    html = text(as_alice, run)
    names = [anchor(f"{n}.txt") for n in range(4)]
    assert coming(html) == [f"{names[0]} with lines", f"{names[1]} with lines", names[2], names[3]]
    assert f'href="/runs/{run.pk}/changes/?&amp;file={names[2]}#{names[2]}"' in html
    html = text(as_alice, run, file=names[2])
    assert coming(html) == [names[0], names[1], f"{names[2]} with lines", f"{names[3]} with lines"]


def test_a_quiet_or_large_file_says_why_it_waits_and_comes_when_it_is_asked_for(as_alice: Client, changed: MakeRun) -> None:
    run = changed({}, {"yarn.lock": b"x\n", "large.txt": b"line\n" * 1501})
    html = text(as_alice, run)
    lock, large = anchor("yarn.lock"), anchor("large.txt")
    assert coming(html) == [large, lock]
    assert "A lock file." in html
    assert "A large change of 1,501 lines." in html
    assert "Load anyway" in html
    assert coming(text(as_alice, run, file=lock)) == [large, f"{lock} with lines"]
    assert coming(text(as_alice, run, file=large)) == [f"{large} with lines", lock]


def test_scripts_fetch_the_lines_of_several_files(as_alice: Client, changed: MakeRun) -> None:
    run = changed({}, {f"{n}.txt": b"line\n" * 150 for n in range(4)})
    names = [anchor(f"{n}.txt") for n in (2, 3)]
    html = text(as_alice, run, "files", file=[*names, "f00000000"])
    assert coming(html) == [f"{name} with lines" for name in names]
    assert "<html" not in html


def test_pages_of_files(as_alice: Client, changed: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_FILES", 2)
    run = changed({}, {f"{n}.txt": b"x\n" for n in range(5)})
    names = [anchor(f"{n}.txt") for n in range(5)]
    html = text(as_alice, run)
    assert coming(html) == [f"{name} with lines" for name in names[:2]]
    assert "Files 1 to 2 of 5." in html
    html = text(as_alice, run, file=names[3])
    assert coming(html) == [names[2], f"{names[3]} with lines"]
    assert f"file={names[0]}#" in html
    assert f"file={names[4]}#" in html


# --- which change ---


@pytest.fixture
def three_turns(workshop: Workshop, changed: MakeRun, alice: User) -> Run:
    run = changed({"a.txt": b"a\n"}, {"one.txt": b"1\n"})
    for number, name in ((2, "two.txt"), (3, "three.txt")):
        turn = Turn.objects.create(run=run, number=number, prompt="more", author=alice, status=RunStatus.SUCCEEDED)
        workshop.patch(turn, {name: b"x\n"})
    return run


@pytest.mark.parametrize(
    ("since", "names"),
    [
        ("", ["one", "three", "two"]),
        ("turn", ["three"]),
        ("1", ["three", "two"]),
        ("0", ["one", "three", "two"]),
        ("x", ["one", "three", "two"]),
    ],
)
def test_the_whole_change_the_last_turn_or_what_came_after_one(as_alice: Client, three_turns: Run, since: str, names: list[str]) -> None:
    html = text(as_alice, three_turns, since=since)
    assert coming(html) == [f"{anchor(f'{name}.txt')} with lines" for name in names]
    assert ("Since turn 1" in html) is True


def test_what_is_shown_is_there_as_a_patch(as_alice: Client, three_turns: Run) -> None:
    response = as_alice.get(address(three_turns, "patch"), {"since": "turn", "download": ""})
    assert response.content.startswith(b"diff --git a/three.txt b/three.txt\nnew file")
    assert b"two.txt" not in response.content
    assert response.headers["Content-Disposition"] == f'attachment; filename="run-{three_turns.pk}-since-turn.patch"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_without_a_patch_or_a_mirror_the_page_says_so(as_alice: Client, make_run: Callable[..., Run], changed: MakeRun) -> None:
    assert "No patch yet" in text(as_alice, make_run(status="running"))
    run = changed({"a.txt": b"a\n"}, {"a.txt": b"b\n"})
    Task.objects.update(base_commit="a" * 40)
    cache.clear()
    run.patches.update(tree="")
    html = text(as_alice, run)
    assert "These changes cannot be shown" in html
    assert "Download the patch" in html


def test_other_people_see_nothing(as_bob: Client, changed: MakeRun) -> None:
    run = changed({"a.txt": b"a\n"}, {"a.txt": b"b\n"})
    for part in ("", "files", "gap", "found", "blob", "patch"):
        assert as_bob.get(address(run, part), GAP).status_code == 404
    for part in ("viewed", "look"):
        assert as_bob.post(address(run, part), {"file": anchor("a.txt")}).status_code == 404
        assert as_bob.get(address(run, part)).status_code == 405


# --- gaps, search, bytes ---


def test_a_gap_gives_its_lines_to_scripts_and_a_page_to_others(as_alice: Client, changed: MakeRun) -> None:
    lines = [f"line {n}\n".encode() for n in range(60)]
    run = changed({"a.txt": b"".join(lines)}, {"a.txt": b"".join([*lines[:50], b"new\n", *lines[51:]])})
    href = re.search(r'<tr class=g><td[^>]*><a href="([^"]+)"', text(as_alice, run))
    assert href
    link = href[1].replace("&amp;", "&")
    rows = as_alice.get(link, headers={"HX-Request": "true"}).content.decode()
    assert rows.count("<tr") == 47
    assert f"id={anchor('a.txt')}-R47" in rows
    assert "line 46" in as_alice.get(link).content.decode()
    assert as_alice.get(address(run, "gap"), GAP | {"old": "-1"}).status_code == 404


def test_search_looks_into_names_and_changed_lines(as_alice: Client, changed: MakeRun) -> None:
    run = changed(
        {"a.txt": b"Needle stays\nneedle goes\n", "needle.txt": b"x\n", "c.txt": b"x\n"},
        {"a.txt": b"Needle stays\nNEEDLE <comes>\n", "needle.txt": b"y\n", "c.txt": b"y\n"},
    )
    html = text(as_alice, run, "found", q="needle")
    a = anchor("a.txt")
    assert re.findall(rf"#({a}-[LR]\d+)", html) == [f"{a}-L2", f"{a}-R2"]
    assert "NEEDLE &lt;comes&gt;" in html
    assert f"#{anchor('needle.txt')}" in html
    assert anchor("c.txt") not in html
    part = as_alice.get(address(run, "found"), {"q": "nothing like it"}, headers={"HX-Request": "true"}).content.decode()
    assert "Nothing in this change has these words." in part
    assert "<html" not in part


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", PNG, "image/png"),
        ("a.avif", b"\x00\x00\x00\x1cftypavif" + bytes(20), "image/avif"),
        ("evil.png", b"\x00<html><script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("a.svg", b"<svg onload='alert(1)'/>", "text/plain; charset=utf-8"),
        ("a.html", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
    ],
)
def test_only_what_is_a_picture_for_sure_is_served_as_one(as_alice: Client, changed: MakeRun, name: str, content: bytes, kind: str) -> None:
    run = changed({}, {name: content})
    response = as_alice.get(address(run, "blob"), {"file": anchor(name), "side": "new"})
    assert response.content == content
    assert response.headers["Content-Type"] == kind
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert as_alice.get(address(run, "blob"), {"file": anchor(name), "side": "old"}).status_code == 404


def test_a_picture_is_shown_before_and_after(as_alice: Client, changed: MakeRun) -> None:
    html = text(as_alice, changed({"a.png": PNG, "b.bin": b"\0"}, {"a.png": PNG + b"x", "b.bin": b"\0\0"}))
    assert [re.search(r"side=(\w+)", src)[1] for src in re.findall(r'<img src="([^"]+)"', html)] == ["old", "new"]  # type: ignore[index]
    assert "From 1\xa0byte to 2\xa0bytes." in html


# --- what is remembered ---


def test_a_file_is_viewed_until_it_changes(as_alice: Client, changed: MakeRun, workshop: Workshop) -> None:
    run = changed({"a.txt": b"a\n"}, {"a.txt": b"b\n", "b.txt": b"b\n"})
    name = anchor("a.txt")

    def digest() -> str:
        found = re.search(rf'name="file" value="{name}">\s+<input type="hidden" name="digest" value="(\w+)"', text(as_alice, run))
        assert found
        return found[1]

    first = digest()
    response = as_alice.post(address(run, "viewed"), {"file": name, "digest": first, "viewed": "on"})
    assert response.headers["Location"] == f"{address(run)}?file={name}#{name}"
    html = text(as_alice, run)
    assert viewed(html) == "1 of 2"
    assert name in coming(html)  # closed, so its lines need not come

    workshop.patch(run.turns.get(), {"a.txt": b"c\n"})
    assert viewed(text(as_alice, run)) == "0 of 2"
    assert as_alice.post(address(run, "viewed"), {"file": name, "digest": first, "viewed": "on"}).status_code == 409
    now = {"file": name, "digest": digest()}
    htmx = {"HX-Request": "true"}
    for _ in range(2):
        assert as_alice.post(address(run, "viewed"), now | {"viewed": "on"}, headers=htmx).status_code == 204
    assert Viewed.objects.count() == 2
    as_alice.post(address(run, "viewed"), now, headers=htmx)
    assert viewed(text(as_alice, run)) == "0 of 2"


def test_form_and_whitespace_are_remembered(as_alice: Client, alice: User, changed: MakeRun, workshop: Workshop) -> None:
    run = changed({"a.txt": b"a b\nsame\n"}, {"a.txt": b"a  b\nsame\n"})
    assert "diff unified" in text(as_alice, run)
    name = anchor("a.txt")
    response = as_alice.post(address(run, "look"), {"form": "split", "at": name, "since": ""})
    assert response.headers["Location"] == f"{address(run)}?file={name}#{name}"
    as_alice.post(address(run, "look"), {"whitespace": "amount"})
    alice.refresh_from_db()
    assert (alice.diff_form, alice.diff_whitespace) == ("split", "amount")
    html = text(as_alice, run)
    assert "Only whitespace differs." in html
    assert "Changes of the amount of whitespace are hidden." in html
    workshop.patch(run.turns.get(), {"a.txt": b"ab\nsame\n"})  # all of it is gone, which is more than another amount
    assert "diff split" in text(as_alice, run)
    as_alice.post(address(run, "look"), {"whitespace": "all"})
    assert "Only whitespace differs." in text(as_alice, run)
    as_alice.post(address(run, "look"), {"whitespace": ""})
    assert "diff split" in text(as_alice, run)
    for unknown in ({"form": "round"}, {"whitespace": "hide"}):
        assert as_alice.post(address(run, "look"), unknown).status_code == 302
    alice.refresh_from_db()
    assert (alice.diff_form, alice.diff_whitespace) == ("split", "")


def test_a_phone_is_given_both_sides_in_one_column_whatever_was_chosen_elsewhere(as_alice: Client, alice: User, changed: MakeRun) -> None:
    run = changed({"a.txt": b"a\n"}, {"a.txt": b"b\n"})
    as_alice.post(address(run, "look"), {"form": "split"})
    phone = {"User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1"}
    for part in ("", "files"):
        html = as_alice.get(address(run, part), {"file": anchor("a.txt")}, headers=phone).content.decode()
        assert "diff unified" in html
    assert "diff split" in text(as_alice, run)


# --- live ---


def test_scripts_are_told_of_a_newer_checkpoint(as_alice: Client, changed: MakeRun, workshop: Workshop) -> None:
    run = changed({"a.txt": b"a\n"}, {"a.txt": b"b\n"})
    found = re.search(r'name="seen" value="([^"]+)"', text(as_alice, run))
    assert found
    ask = {"HX-Request": "true", "HX-Target": "news"}
    assert as_alice.get(address(run), {"seen": found[1]}, headers=ask).status_code == 204
    Turn.objects.create(run=run, number=2, prompt="more", author=run.task.owner, status="running")
    workshop.patch(run.turns.get(number=2), {"a.txt": b"c\n"}, PatchKind.CHECKPOINT)
    html = as_alice.get(address(run), {"seen": found[1]}, headers=ask).content.decode()
    assert "New changes" in html
    assert "<html" not in html


# --- hostile content ---


def test_names_and_lines_that_are_hostile_are_shown_as_they_are(as_alice: Client, changed: MakeRun) -> None:
    names = ["<img src=x onerror=alert(1)>", "a\nb", "q\"u'ote", "\u202egnp.exe", "bytes-\udcff", "d/" * 40 + "deep"]
    run = changed({}, {name: HOSTILE[: -1 if n % 2 else None] for n, name in enumerate(names)})
    html = text(as_alice, run)
    body = html[html.index("<main") :]
    assert "<img src=x" not in body
    assert "<script" not in body
    assert "\u202e" not in body
    assert "\x1b" not in body
    assert len(coming(html)) == len(names)
    for name in names:
        assert as_alice.get(address(run, "blob"), {"file": anchor(name)}).status_code == 200


def test_thousands_of_files_and_a_line_of_five_megabytes(as_alice: Client, changed: MakeRun) -> None:
    many: Files = {f"{n % 40}/{n % 7}/{n}.txt": b"x\n" for n in range(3_000)}
    run = changed({}, {"0-long.txt": b"x" * 5_000_000, **many})
    html = text(as_alice, run)
    assert len(coming(html)) == changes.MOST_FILES
    assert len(html) < 2_500_000
    assert "more characters" in html
    last = anchor("13/5/2973.txt")
    assert f"{last} with lines" in coming(text(as_alice, run, file=last))
