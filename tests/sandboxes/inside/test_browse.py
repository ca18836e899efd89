"""Looking into the workspace through the control socket: folders, files, and what a run left in `artifacts`."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.sandboxes.inside._houses import House

BOUNDS = {"most_files": 10, "most_file_bytes": 100, "most_bytes": 250}


@pytest.fixture
def house(house: House) -> House:
    """A supervisor whose workspace is a plain folder, beside which a secret lies."""
    (house.folder / "secret").write_text("secret")
    return house


def look(house: House, path: str = "", first: int = 0, most: int = 100) -> Any:
    reply = house.ask("look", path=path, first=first, most=most)
    return [(each["name"], each["kind"], each["size"], each["target"]) for each in reply["entries"]] if reply["ok"] else reply["error"]


def read(house: House, path: str, offset: int = 0, most: int = 100) -> Any:
    reply = house.ask("read", path=path, offset=offset, most=most)
    return (reply.get("raw", b""), reply["whole"]) if reply["ok"] else reply["error"]


def collect(house: House, known: dict[str, str] | None = None, **bounds: int) -> tuple[dict[str, bytes], dict[str, str]]:
    reply = house.ask("collect", path="artifacts", known=known or {}, **{**BOUNDS, **bounds})
    assert reply["ok"], reply
    raw, files = reply.get("raw", b""), {}
    for told in reply["files"]:
        files[told["path"]], raw = raw[: told["bytes"]], raw[told["bytes"] :]
    assert raw == b""
    return files, {told["path"]: told["reason"] for told in reply["left_out"]}


def artifact(house: House, path: str, content: bytes = b"x") -> Path:
    file = house.workspace / "artifacts" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_a_folder_is_listed_folders_first_and_in_pages(house: House) -> None:
    (house.workspace / "sub").mkdir()
    (house.workspace / "a.txt").write_bytes(b"12345")
    (house.workspace / "to").symlink_to("../secret")
    os.mkfifo(house.workspace / "pipe")
    os.close(os.open(os.fsencode(house.workspace) + b"/latin\xe9\n", os.O_CREAT | os.O_WRONLY))
    found = [
        ("sub", "folder", 0, ""),
        ("a.txt", "file", 5, ""),
        ("latin\udce9\n", "file", 0, ""),
        ("pipe", "other", 0, ""),
        ("to", "link", 0, "../secret"),
    ]
    assert look(house) == found
    assert look(house, first=1, most=2) == found[1:3]
    assert house.ask("look", path="", first=4, most=9)["count"] == 5
    assert look(house, "sub") == []
    assert read(house, "latin\udce9\n") == (b"", 0)


def test_a_file_is_read_from_any_place_and_no_more_than_asked_for(house: House) -> None:
    (house.workspace / "a.txt").write_bytes(b"0123456789")
    assert read(house, "a.txt") == (b"0123456789", 10)
    assert read(house, "a.txt", offset=3, most=4) == (b"3456", 10)
    assert read(house, "a.txt", offset=99) == (b"", 10)
    with (house.workspace / "huge").open("wb") as file:
        file.truncate(10 * 2**30)
    assert read(house, "huge", offset=10 * 2**30 - 1, most=2**40) == (b"\0", 10 * 2**30)


def test_no_link_leads_out_of_the_workspace(house: House) -> None:
    (house.workspace / "file").symlink_to("../secret")
    (house.workspace / "up").symlink_to("..")
    (house.workspace / "root").symlink_to("/")
    (house.workspace / "own").symlink_to("/proc/self/fd")
    for path in ("file", "up/secret", "root/etc/passwd", "own/0", "up"):
        assert read(house, path) in ("failed", "missing"), path
    for path in ("up", "root", "root/etc", "own", "file"):
        assert look(house, path) in ("failed", "missing"), path


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../secret", "./a", "a//b", "a/", ".", "a\0b", 7])
def test_a_path_that_is_not_below_is_refused(house: House, path: Any) -> None:
    assert read(house, path) == "bad"
    assert look(house, path) == "bad"


@pytest.mark.parametrize("field", ["offset", "most"])
def test_a_bound_that_is_no_number_is_refused(house: House, field: str) -> None:
    (house.workspace / "a").write_bytes(b"x")
    for value in (-1, "1", None, True, 1.5):
        assert house.ask("read", **{"path": "a", "offset": 0, "most": 1, field: value})["error"] == "bad"


def test_what_is_no_regular_file_is_refused_at_once(house: House) -> None:
    os.mkfifo(house.workspace / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(house.workspace / "sock"))
    for path in ("pipe", "sock", ""):
        assert read(house, path) == "failed"
    assert read(house, "none") == look(house, "none") == look(house, "pipe/x") == "missing"


def test_a_file_that_is_exchanged_all_the_time_never_gives_what_lies_elsewhere(house: House) -> None:
    """A folder and a link to the folder above take turns under one name."""
    folder, aside = house.workspace / "turn", house.workspace / "aside"
    folder.mkdir()
    (folder / "secret").write_text("mine")
    stopped = threading.Event()

    def exchange() -> None:
        while not stopped.is_set():
            folder.rename(aside)
            folder.symlink_to("..")
            folder.unlink()
            aside.rename(folder)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        found = {read(house, "turn/secret") for _ in range(200)}
    finally:
        stopped.set()
        thread.join()
    assert found <= {(b"mine", 4), "missing", "failed"}


# --- what a run left ---


def test_regular_files_are_collected_and_nothing_else(house: House) -> None:
    assert collect(house) == ({}, {})
    artifact(house, "report.html", b"<h1>")
    artifact(house, "shots/one.png", b"png")
    artifact(house, "empty", b"")
    (house.workspace / "artifacts" / "to").symlink_to("../../secret")
    (house.workspace / "artifacts" / "up").symlink_to("../..")
    os.mkfifo(house.workspace / "artifacts" / "pipe")
    os.close(os.open(os.fsencode(house.workspace) + b"/artifacts/\xe9", os.O_CREAT | os.O_WRONLY))
    assert collect(house) == ({"empty": b"", "report.html": b"<h1>", "\udce9": b"", "shots/one.png": b"png"}, {})


def test_a_folder_of_artifacts_that_is_a_link_has_nothing(house: House) -> None:
    (house.workspace / "artifacts").symlink_to("..")
    assert collect(house) == ({}, {})


def test_what_is_known_does_not_come_again(house: House) -> None:
    artifact(house, "same", b"same")
    artifact(house, "other", b"new")
    known = {path: hashlib.sha256(content).hexdigest() for path, content in (("same", b"same"), ("other", b"old"))}
    assert collect(house, known) == ({"other": b"new"}, {})


def test_what_is_over_a_bound_is_named_with_why(house: House) -> None:
    artifact(house, "a", b"x" * 101)
    for name in "bcd":
        artifact(house, name, b"x" * 100)
    artifact(house, "e", b"x" * 40)
    artifact(house, "f", b"x")
    artifact(house, "g", b"x").chmod(0)
    files, left_out = collect(house, most_files=3)
    assert {path: len(content) for path, content in files.items()} == {"b": 100, "c": 100, "e": 40}
    assert left_out == {"a": "size", "d": "total", "f": "count", "g": "unreadable" if os.geteuid() else "count"}


def test_too_many_to_name_are_counted(house: House) -> None:
    for number in range(150):
        artifact(house, f"{number:03}")
    files, left_out = collect(house)
    assert len(files) == 10
    assert len(left_out) == 101
    assert left_out["…"] == "and 40 more"


def test_a_folder_without_a_bottom_ends(house: House) -> None:
    place = house.workspace / "artifacts"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    artifact(house, "found")
    assert collect(house) == ({"found": b"x"}, {})
