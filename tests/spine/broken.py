"""Copies of the checkout with a fence taken out, to see that the tests would notice."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.spine.product import SOURCE

Change = tuple[str, str, str]  # file, what stands there, what is put in its place

NO_COMPARE_AND_SET: list[Change] = [
    ("tasks/running/starting.py", "        if is_mine:\n", "        if True:\n"),
    ("tasks/running/starting.py", "    if not is_mine:\n", "    if False:\n"),
]
NO_START_FENCE: list[Change] = [
    (
        "tasks/running/starting.py",
        "return Q(generation=generation, lease_owner=owner, stop_requested_at=None)",
        "return Q(stop_requested_at=None)",
    ),
]
NO_FOLLOW_FENCE: list[Change] = [
    ("tasks/running/events.py", "WHERE r.lease_owner = %(owner)s AND r.lease_until > clock_timestamp()", "WHERE %(owner)s <> ''"),
    ("tasks/running/events.py", 'AND i.old = s."offset"\n', "\n"),
    ("tasks/running/events.py", 'AND s."offset" = i.old\n', "\n"),
]


def copy(folder: Path, changes: list[Change]) -> Path:
    """A checkout in `folder` that differs from ours by `changes`."""
    for name in ("asynccode", "tasks", "agents", "sandboxes", "templates", "static"):
        shutil.copytree(SOURCE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE / "manage.py", folder)
    for name, old, new in changes:
        path = folder / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} has changed: {old!r} stands there {text.count(old)} times"
        path.write_text(text.replace(old, new))
    return folder
