"""The agents' programs for the tests that start them: installed once, and kept for the next time.

They lie outside the checkout and outside any home, because the account of sandboxes has to reach them. A product under test
gets them by `share`; the pins name versions, so what is kept is right for as long as it is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from agents.install import ensure_node, put
from agents.packages import INSIDE, PACKAGES
from sandboxes.local import accounts, bare, bwrap

FOLDER = Path(f"/var/tmp/asynccode-tests-{os.geteuid()}")


def bring_node(root: Path) -> None:
    """Put Node into a folder of agents of a test's own."""
    ensure_node(installed(), lambda percent, text: None)
    shutil.copytree(installed() / "node", root / "node", copy_function=os.link, symlinks=True)


class Sandboxed:
    """Programs below `root` are tried out in sandboxes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, program: Path, arguments: Sequence[str]) -> tuple[int, str]:
        account = accounts.ensure(accounts.SANDBOX_ACCOUNT) if os.geteuid() == 0 else None
        (FOLDER / "sandboxes").mkdir(mode=0o711, exist_ok=True)
        done = bare.run(
            [f"{INSIDE}/{program}", *arguments],
            program=bwrap.install(FOLDER / "runtime"),
            root=FOLDER / "sandboxes",
            account=account,
            agents=self._root,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr


def installed(*names: str) -> Path:
    """A folder as DATA/agents is, with these agents (names of `agents/packages.py`) installed in it."""
    FOLDER.mkdir(mode=0o711, exist_ok=True)
    status = FOLDER.lstat()
    assert status.st_uid == os.geteuid(), f"{FOLDER} is somebody else's"
    assert not status.st_mode & 0o022, f"others may write to {FOLDER}"
    for name in names:
        put(PACKAGES[name], FOLDER / "agents", lambda percent, text: None, Sandboxed(FOLDER / "agents"))
    return FOLDER / "agents"


def share(data: Path, *names: str) -> None:
    """Let the product whose data folder this is find these agents installed."""
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    (data / "agents").symlink_to(installed(*names))
