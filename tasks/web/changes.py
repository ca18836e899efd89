"""A patch on the page: one panel a file, bounded whatever the patch holds."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.db.models import Value
from django.db.models.functions import Length, Substr
from django.utils.safestring import SafeString

from tasks.models import Patch
from tasks.web.shown import patch_html

MOST_PATCH = 256 * 1024  # bytes of a patch on the page; the download has all
MOST_FILES = 500
OPEN_LINES = 400  # a longer file starts closed,
OPEN_LINES_IN_ALL = 1500  # and so does what comes after as much as this

_FILE = re.compile(rb"^diff --git ", re.MULTILINE)  # never within a hunk, whose lines begin with a space, +, − or \


@dataclass(frozen=True)
class FilePanel:
    """One file of a patch. `file` is its entry in `Patch.files`; `html` its hunks, or "" when there is nothing to read."""

    number: int
    file: Mapping[str, Any]
    html: SafeString
    note: str
    is_open: bool
    is_cut: bool
    digest: str

    @property
    def base(self) -> str:
        return str(self.file["path"]).rpartition("/")[2]

    @property
    def folder(self) -> str:
        """What stands before `base`, with its slash: where there is little room, this is what shortens."""
        return str(self.file["path"]).removesuffix(self.base)


def changes_of(patch: Patch) -> dict[str, Any]:
    """The beginning of a patch as panels, and the list of its files as (number of its panel or 0, file)."""
    head, size = Patch.objects.values_list(Substr("content", Value(1), Value(MOST_PATCH)), Length("content")).get(pk=patch.pk)
    shown = panels(bytes(head), patch.files, is_cut=size > MOST_PATCH)
    listed = list(enumerate(patch.files[:MOST_FILES], 1))
    return {
        "panels": shown,
        "listed": [(number if number <= len(shown) else 0, file) for number, file in listed],
        "patch_size": size,
        "is_patch_cut": size > MOST_PATCH,
        "is_list_cut": len(patch.files) > MOST_FILES,
    }


def panels(content: bytes, files: Sequence[Mapping[str, Any]], *, is_cut: bool = False) -> list[FilePanel]:
    """The files of a patch, of which `content` is the beginning, in its order, which is the one of `files`."""
    starts = [match.start() for match in _FILE.finditer(content)]
    sections = [content[start:end] for start, end in pairwise([*starts, len(content)])]
    found: list[FilePanel] = []
    lines_left = OPEN_LINES_IN_ALL
    for number, (section, file) in enumerate(zip(sections, files, strict=False), 1):
        is_last_cut = is_cut and number == len(sections)
        html, note = _body(section, file)
        lines = section.count(b"\n")
        is_open = bool(html) and lines <= min(OPEN_LINES, lines_left)
        lines_left -= lines if is_open else 0
        digest = f"{zlib.crc32(section):08x}{'+' if is_last_cut else ''}"
        found.append(FilePanel(number, file, html, note, is_open, is_last_cut, digest))
    return found


def _body(section: bytes, file: Mapping[str, Any]) -> tuple[SafeString, str]:
    """The hunks of one file as HTML, and a sentence instead where there are none."""
    header, at, hunks = section.partition(b"\n@@ ")
    if at:
        return patch_html(b"@@ " + hunks), ""
    if file.get("is_binary"):
        return SafeString(), "A binary file; the patch has its bytes."
    modes = re.findall(rb"^(?:old|new) mode (\d+)$", header, re.MULTILINE)
    if len(modes) == 2:
        return SafeString(), f"Its mode went from {modes[0].decode()} to {modes[1].decode()}; its content is the same."
    return SafeString(), {"renamed": "Moved without a change."}.get(str(file.get("state")), "An empty file.")
