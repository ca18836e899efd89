"""Conversations that can be gone on with on another machine: in which file an agent keeps one, and how it takes it up again there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Saved:
    """`pattern`: of the shell, for the one file of JSON lines in the sandbox that holds it. `folder` and `name`: where the program looks
    for that file elsewhere; `folder` stands between double quotes in a shell that is in the folder to go on in. `resume`: what takes
    it up again in a terminal of one's own, asking before it acts, whatever the sandbox allowed it.
    """

    pattern: str
    folder: str
    name: str
    resume: Sequence[str]


def is_id(conversation: str) -> bool:
    """Whether this is such an id as Claude Code and Codex give, and nothing else: what an agent says its id is goes into a shell."""
    return _UUID.fullmatch(conversation) is not None
