"""A patch on the page: one panel a file, and how much of it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.web import changes

ONE = b"diff --git a/a.py b/a.py\nindex 1..2 100644\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-<old>\n+diff --git a/x b/x\n"
TWO = b"diff --git a/b.py b/b.py\nnew file mode 100644\n--- /dev/null\n+++ b/b.py\n@@ -0,0 +1 @@\n+two\n"


def file(path: str, **fields: Any) -> dict[str, Any]:
    return {"path": path, "old_path": path, "state": "modified", "additions": 1, "deletions": 1, "is_binary": False} | fields


def test_each_file_is_a_panel_and_content_that_looks_like_a_patch_stays_content() -> None:
    one, two = changes.panels(ONE + TWO, [file("a.py"), file("b.py", state="added")])
    assert (one.number, one.file["path"], two.number, two.file["path"]) == (1, "a.py", 2, "b.py")
    assert "&lt;old&gt;" in one.html
    assert "+diff --git a/x b/x" in one.html
    assert "index 1..2" not in one.html
    assert "+two" in two.html


@pytest.mark.parametrize(("path", "folder", "base"), [("src/up/a.py", "src/up/", "a.py"), ("a.py", "", "a.py"), ("a/a", "a/", "a")])
def test_a_path_is_its_folder_and_its_name(path: str, folder: str, base: str) -> None:
    (panel,) = changes.panels(ONE, [file(path)])
    assert (panel.folder, panel.base) == (folder, base)


def test_a_panel_keeps_its_digest_while_its_file_is_the_same() -> None:
    before = changes.panels(ONE + TWO, [file("a.py"), file("b.py")])
    after = changes.panels(ONE + TWO.replace(b"two", b"zwei"), [file("a.py"), file("b.py")])
    assert before[0].digest == after[0].digest
    assert before[1].digest != after[1].digest


@pytest.mark.parametrize(
    ("section", "fields", "note"),
    [
        (b"diff --git a/f b/f\nindex 1..2\nGIT binary patch\nliteral 3\nKabc\n", {"is_binary": True}, "A binary file"),
        (b"diff --git a/f b/f\nold mode 100644\nnew mode 100755\n", {"state": "mode"}, "Its mode went from 100644 to 100755"),
        (b"diff --git a/e b/f\nsimilarity index 100%\nrename from e\nrename to f\n", {"state": "renamed"}, "Moved without a change."),
        (b"diff --git a/f b/f\nnew file mode 100644\nindex 0..e6\n", {"state": "added"}, "An empty file."),
    ],
)
def test_what_has_no_lines_says_what_it_is(section: bytes, fields: dict[str, Any], note: str) -> None:
    (panel,) = changes.panels(section, [file("f", **fields)])
    assert panel.note.startswith(note)
    assert not panel.html
    assert not panel.is_open


def test_long_files_and_those_after_many_lines_start_closed() -> None:
    long = b"diff --git a/f b/f\n@@ -1 +1 @@\n" + b"+x\n" * (changes.OPEN_LINES + 1)
    short = b"diff --git a/f b/f\n@@ -1 +1 @@\n" + b"+x\n" * 300
    found = changes.panels(long + 8 * short, [file("f")] * 9)
    assert [panel.is_open for panel in found] == [False, True, True, True, True, False, False, False, False]


def test_where_the_patch_was_cut_is_said() -> None:
    found = changes.panels((ONE + TWO)[:-3], [file("a.py"), file("b.py"), file("c.py")], is_cut=True)
    assert [panel.is_cut for panel in found] == [False, True]


@pytest.mark.parametrize("content", [b"", b"\xff\x00 no patch", b"diff --git "])
def test_odd_content_is_no_error(content: bytes) -> None:
    assert changes.panels(content, []) == []
