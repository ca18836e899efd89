"""Files given with a prompt, and what a run left: brought into a folder, and never out of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asynccode.client.artifacts import write
from tests.client.conftest import Desk

SCRIPT = r"""mkdir -p artifacts/deep
cp "$ASYNCCODE_ATTACHMENTS"/*.txt artifacts/
printf two > artifacts/deep/b.bin
printf x > "artifacts/$(printf 'evil\033]0;title\007.txt')"
"""


def test_files_go_with_a_prompt_and_what_was_left_is_brought_back(desk: Desk, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("read me\n")
    command = ("--attach", str(notes), "--idempotency-key", "with-notes")
    (run,) = desk.submit(SCRIPT, *command)
    assert desk.submit(SCRIPT, *command) == [run]  # the file is the same one, too
    desk.ok("watch", str(run))

    listed = desk.ok("artifacts", str(run))
    assert "8  notes.txt\n" in listed
    assert "evil\\x1b]0;title\\x07.txt" in listed
    assert {artifact["size"] for artifact in json.loads(desk.ok("artifacts", str(run), "--json"))} == {1, 3, 8}

    desk.ok("artifacts", str(run), "--download", "kept")
    assert (desk.folder / "kept" / "notes.txt").read_text() == "read me\n"
    assert (desk.folder / "kept" / "deep" / "b.bin").read_bytes() == b"two"
    again = desk("artifacts", str(run), "--download", "kept")
    assert again.exit_code == 1
    assert "notes.txt was not written: something of that name is there already." in again.stderr


def test_a_file_that_cannot_be_read_begins_nothing(desk: Desk) -> None:
    done = desk("submit", "true", "--agent", "shell", "--attach", "missing.txt")
    assert (done.exit_code, "A file cannot be attached" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "path",
    [
        "../out.txt",
        "a/../../out.txt",
        "/out.txt",
        "link/out.txt",
        "link/../out.txt",
        "dangling",
        "a\0b",
        "",
        ".",
        "..",
        "a/" * 3000,
        ".git/hooks/x",
        "a/.GIT/config",
    ],
)
def test_nothing_is_written_outside_of_the_folder(tmp_path: Path, path: str) -> None:
    """Whatever a server says that a file is called, and whatever lies there already."""
    outside, folder = tmp_path / "outside", tmp_path / "inside" / "folder"
    outside.mkdir()
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(outside)
    (folder / "dangling").symlink_to(outside / "new.txt")
    path = f"{tmp_path}{path}" if path.startswith("/") else path

    assert write(folder, path, b"evil")

    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_folder_is_made_and_nothing_is_written_over(tmp_path: Path) -> None:
    assert write(tmp_path / "new", "a/b.txt", b"one") == ""
    assert write(tmp_path / "new", "a/b.txt", b"two") == "something of that name is there already"
    assert write(tmp_path / "new", "a/b.txt/c", b"two")
    assert (tmp_path / "new" / "a" / "b.txt").read_bytes() == b"one"
