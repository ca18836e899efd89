"""Files of a change as HTML: whole, right, and harmless whatever is in them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from django.core.cache import cache
from django.test import override_settings

from tasks.models import Task, Turn
from tasks.review import diffs, highlight, render
from tasks.review.diffs import File, anchor
from tasks.review.render import Form, Options, Rendered, gap
from tasks.review.trees import Change
from tests.tasks.review.conftest import Workshop

FirstTurn = Callable[[Task], Turn]
Files = dict[str, bytes | None]
A = anchor("a.txt")
NO_REDIS = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "unix:///nonexistent/socket"}}


class Table(HTMLParser):
    """What a browser makes of the markup: rows of (class, [(id, text) of each cell])."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[tuple[str, list[tuple[str, str]]]] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.add(" ".join([tag, *sorted(set(attributes) - {"id", "class", "title", "colspan", "href"})]))
        if tag == "tr":
            self.rows.append((attributes.get("class", ""), []))
        elif tag == "td":
            self.rows[-1][1].append((attributes.get("id", ""), ""))

    def handle_data(self, data: str) -> None:
        name, text = self.rows[-1][1][-1]
        self.rows[-1][1][-1] = (name, text + data)


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def change(workshop: Workshop, first_turn: FirstTurn) -> Callable[[Files, Files], list[File]]:
    """The files that differ between a base commit with `old` and what a run made of it."""

    def make(old: Files, new: Files) -> list[File]:
        task = workshop.base(old)
        patch = workshop.patch(first_turn(task), new)
        return Change(task, None, patch).ask(diffs.files)

    return make


MakeChange = Callable[[Files, Files], list[File]]


def one(workshop: Workshop, files: list[File], options: Options = Options(), **more: object) -> Rendered:  # noqa: B008
    (rendered,) = render.render(workshop.mirror, files, options, **more)
    return rendered


def test_rows_have_numbers_ids_and_marked_words(workshop: Workshop, change: MakeChange) -> None:
    files = change({"a.txt": b"same\nold word\nlast\n"}, {"a.txt": b"same\nnew word\nlast\nmore"})
    rendered = one(workshop, files)
    assert Table(rendered.html).rows == [
        ("", [(f"{A}-L1", "1"), (f"{A}-R1", "1"), ("", "same")]),
        ("d", [(f"{A}-L2", "2"), ("", ""), ("", "old word")]),
        ("a", [("", ""), (f"{A}-R2", "2"), ("", "new word")]),
        ("", [(f"{A}-L3", "3"), (f"{A}-R3", "3"), ("", "last")]),
        ("a", [("", ""), (f"{A}-R4", "4"), ("", "moreNo newline at end of file")]),
    ]
    assert "<b>new</b> word" in rendered.html
    assert rendered.rows == 5
    split = one(workshop, files, Options(Form.SPLIT))
    assert Table(split.html).rows[1:3] == [
        ("c", [(f"{A}-L2", "2"), ("", "old word"), (f"{A}-R2", "2"), ("", "new word")]),
        ("", [(f"{A}-L3", "3"), ("", "last"), (f"{A}-R3", "3"), ("", "last")]),
    ]


def test_a_gap_links_to_its_lines_and_gives_them(workshop: Workshop, change: MakeChange) -> None:
    lines = [f"line {n}" for n in range(1, 41)]
    files = change({"a.txt": "\n".join(lines).encode()}, {"a.txt": "\n".join(["new", *lines[:20], "X", *lines[21:]]).encode()})
    (rendered,) = render.render(workshop.mirror, files, gap_href="/run/1/lines?")
    assert re.findall(r'href="([^"]+)">(\d+ lines)', rendered.html) == [
        (f"/run/1/lines?file={A}&amp;old=4&amp;new=5&amp;lines=14", "14 lines"),
        (f"/run/1/lines?file={A}&amp;old=25&amp;new=26&amp;lines=16", "16 lines"),
    ]
    rows = Table(gap(workshop.mirror, files[0], 4, 5, 14).html).rows
    assert (rows[0], rows[-1]) == (
        ("", [(f"{A}-L4", "4"), (f"{A}-R5", "5"), ("", "line 4")]),
        ("", [(f"{A}-L17", "17"), (f"{A}-R18", "18"), ("", "line 17")]),
    )
    assert gap(workshop.mirror, files[0], 39, 40, 999).rows == 2
    assert gap(workshop.mirror, files[0], 999, 999, 5).rows == 0


def test_a_long_table_is_in_parts_that_are_laid_out_each_by_itself(workshop: Workshop, change: MakeChange) -> None:
    rendered = one(workshop, change({}, {"a.txt": b"line\n" * (2 * render.PART + 1)}))
    assert [part.count("<tr") for part in rendered.html.split("<tbody>")[1:]] == [render.PART, render.PART, 1]


def test_a_string_of_many_lines_is_one_in_each_of_them(workshop: Workshop, change: MakeChange) -> None:
    old = b'x = 1\ntext = """\nif this: return\n"""\n'
    rendered = one(workshop, change({"a.py": old}, {"a.py": old.replace(b"this", b"that")}))
    assert "<i class=s>if </i><b><i class=s>that</i></b><i class=s>: return</i>" in rendered.html
    assert "<i class=m>1</i>" in rendered.html


HOSTILE: Files = {
    "tags.html": b"<script>alert(1)</script><td></table><img src=x onerror=alert(1)>&amp;\n",
    "tags.py": b"x = '</i></td><script>' # <!--\n",
    "hidden.js": "if (admin\u202e \u2066// ok\u2069) { a\u200bb; x\u200d=1; e\U000e0150 }\n".encode(),
    "terminal.txt": b"\x1b[31mred\x1b]0;title\x07\x08\x01\x02 f1-\n",
    "late_nul.txt": b"a" * 9000 + b"\nb\0c\n",
    "latin.py": b"s = 'caf\xe9'\n",
    "bom.css": b"\xef\xbb\xbfa { color: red }\n",
    "long.js": b"x = '" + b"y" * 5_000_000 + b"';\n",
    "lone_cr.txt": b"a\rb\n",
    "odd \x01 <b>\n.txt": b"name\n",
}


def test_nothing_hides_executes_or_freezes(workshop: Workshop, change: MakeChange) -> None:
    files = change({}, HOSTILE)
    began = time.process_time()
    for options in (Options(), Options(Form.SPLIT)):
        html = "".join(rendered.html for rendered in render.render(workshop.mirror, files, options))
        html.encode()
        assert Table(html).tags <= {"table", "colgroup", "col", "tbody", "tr", "td", "i", "b", "span"}
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0100-\U000e01ef]", html
        )
        for label in (
            "\\x1b",
            "\\x07",
            "\\x01",
            "\\x02",
            "\\x00",
            "\\xe9",
            "\\x0d",
            "U+202E",
            "U+2066",
            "U+200B",
            "U+200D",
            "U+FEFF",
            "U+E0150",
        ):
            assert f">{label}</span>" in html
        assert "4,998,007 more characters" in html
    assert time.process_time() - began < 5


def test_line_ends_are_seen_where_they_differ(workshop: Workshop, change: MakeChange) -> None:
    files = change(
        {"same.txt": b"a\r\nb\r\n", "to_lf.txt": b"a\r\nb\r\n", "mixed.txt": b"a\nb\r\n"},
        {"same.txt": b"a\r\nc\r\n", "to_lf.txt": b"a\nb\n", "mixed.txt": b"a\nc\r\n"},
    )
    found = {file.path: rendered.html for file, rendered in zip(files, render.render(workshop.mirror, files), strict=True)}
    marks = {path: html.count(">\\x0d</span>") for path, html in found.items()}
    assert marks == {"same.txt": 0, "to_lf.txt": 2, "mixed.txt": 2}


def test_a_line_break_at_the_end_is_seen(workshop: Workshop, change: MakeChange) -> None:
    rows = Table(one(workshop, change({"a": b"x"}, {"a": b"x\n"})).html).rows
    assert [(row[0], row[1][-1][1]) for row in rows] == [("d", "xNo newline at end of file"), ("a", "x")]


def test_whitespace_can_be_ignored(workshop: Workshop, change: MakeChange) -> None:
    files = change({"a.py": b"if x:\n  y\n"}, {"a.py": b"if x:\n    y\n"})
    ignored = one(workshop, files, Options(whitespace="all"))
    assert (ignored.html, ignored.note) == ("", "Only whitespace differs.")
    assert one(workshop, files).rows == 3


def test_what_is_no_text_says_what_it_is(workshop: Workshop, first_turn: FirstTurn) -> None:
    long = b"".join(b"%d\n" % n for n in range(30))
    wide = ["a\n".encode("utf-16"), "b\n".encode("utf-16")]
    task = workshop.base({"run.sh": b"x\n", "moved": long, "bin": b"\0", "wide.txt": wide[0], ".gitattributes": b"*.svg -diff\n"})
    (workshop.folder / "run.sh").chmod(0o755)
    (workshop.folder / "link").symlink_to("../<target>")
    (workshop.folder / "module").mkdir()
    workshop.git("update-index", "--add", "--cacheinfo", f"160000,{'3' * 40},module")
    new: Files = {"moved": None, "to/moved": long, "bin": b"\0\1", "wide.txt": wide[1], "a.svg": b"<svg/>\n", "empty": b""}
    files = Change(task, None, workshop.patch(first_turn(task), new)).ask(diffs.files)
    rendered = render.render(workshop.mirror, files)
    assert {file.path: (file.note, bool(its.html)) for file, its in zip(files, rendered, strict=True)} == {
        "a.svg": ("Its .gitattributes say that it is not to be shown as text.", False),
        "bin": ("A binary file.", False),
        "empty": ("An empty file.", False),
        "link": ("A symbolic link; its line is where it leads.", True),
        "module": ("A submodule at 3333333333.", False),
        "run.sh": ("Made executable.", False),
        "to/moved": ("Moved without a change.", False),
        "wide.txt": ("A binary file.", False),
    }


def test_lock_files_and_generated_ones_are_quiet_and_a_change_cannot_hide_itself(workshop: Workshop, change: MakeChange) -> None:
    old: Files = {".gitattributes": b"gen/* linguist-generated\nkept/uv.lock -linguist-generated\nlib/* linguist-vendored\n"}
    names = ["gen/a", "kept/uv.lock", "lib/b", "web/package-lock.json", "app.min.js", "vendor/x.go", "evil.py"]
    files = change(old, {**dict.fromkeys(names, b"x\n"), ".gitattributes": b"* linguist-generated\n"})
    assert {file.path: file.quiet for file in files} == {
        ".gitattributes": "",
        "gen/a": "generated",
        "kept/uv.lock": "",
        "lib/b": "vendored",
        "web/package-lock.json": "lock file",
        "app.min.js": "generated",
        "vendor/x.go": "vendored",
        "evil.py": "",
    }


def test_highlighting_stops_in_time_and_the_rest_comes_when_it_is_asked_for(workshop: Workshop, change: MakeChange) -> None:
    files = change({}, {f"{n}.py": b"def f(x):\n    return x  # yes\n" * 300 for n in range(3)})
    began = time.perf_counter()
    short = render.render(workshop.mirror, files, budget_ms=0)
    assert [rendered.is_highlighted for rendered in short] == [False] * 3
    assert "<i " not in short[2].html
    assert all(rendered.is_highlighted for rendered in render.render(workshop.mirror, files))
    assert time.perf_counter() - began < 10
    assert all("<i class=k>def</i>" in rendered.html for rendered in render.render(workshop.mirror, files, budget_ms=0))


def test_what_was_rendered_once_asks_git_nothing(workshop: Workshop, change: MakeChange, monkeypatch: pytest.MonkeyPatch) -> None:
    files = change({"a.py": b"x = 1\n"}, {"a.py": b"x = 2\n"})
    first = one(workshop, files)
    monkeypatch.setattr("tasks.git.changes.ask", None)
    assert one(workshop, files) == first
    other = replace(files[0], change=replace(files[0].change, path="b.py"))
    assert f"id={anchor('b.py')}-L1" in one(workshop, [other]).html


def test_without_a_cache_all_is_there(workshop: Workshop, change: MakeChange) -> None:
    with override_settings(CACHES=NO_REDIS):
        files = change({"a.py": b"x = 1\n"}, {"a.py": b"x = 2\n"})
        assert one(workshop, files).rows == 2


def test_limits(workshop: Workshop, change: MakeChange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "MOST_ROWS", 10)
    monkeypatch.setattr(render, "MOST_BYTES", 5000)
    monkeypatch.setattr(render, "MOST_LINES", 100)
    monkeypatch.setattr(highlight, "MOST_CHARACTERS", 100)
    files = change({}, {"lines.py": b"\n" * 101, "rows.py": b"x = 1\n" * 50, "size.py": b"x" * 6000})
    lines, rows, size = render.render(workshop.mirror, files)
    assert rows.rows == 11
    assert "What follows is not shown" in rows.html
    assert "<i " not in rows.html
    assert rows.is_highlighted  # more time would change nothing
    for large in (lines, size):
        assert (large.html, large.note) == ("", "It is too large to be shown. The download has it.")
