"""The agents' programs for the tests that start them: installed once, and kept for the next time.

They lie outside the checkout and outside any home, because the account of sandboxes has to reach them. A product under test
gets them by `share`; the pins name versions, so what is kept is right for as long as it is there.
"""

from __future__ import annotations

import os
from pathlib import Path

from agents.install import install

FOLDER = Path(f"/var/tmp/asynccode-tests-{os.geteuid()}")


def installed(*names: str) -> Path:
    """A folder as DATA/agents is, with these agents (names of `agents/packages.py`) installed in it."""
    FOLDER.mkdir(mode=0o711, exist_ok=True)
    status = FOLDER.lstat()
    assert status.st_uid == os.geteuid(), f"{FOLDER} is somebody else's"
    assert not status.st_mode & 0o022, f"others may write to {FOLDER}"
    for name in names:
        install(name, FOLDER / "agents")
    return FOLDER / "agents"


def share(data: Path, *names: str) -> None:
    """Let the product whose data folder this is find these agents installed."""
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    (data / "agents").symlink_to(installed(*names))
