"""Names of what is kept at E2B: they say whose it is and since when, as nothing else there does."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable

INSTALLATION = "asynccode"  # the name in a sandbox's metadata that says whose it is

_NAME = re.compile(r"(?:^|/)asynccode-kept-([a-z0-9]+)-([0-9]+)-[0-9a-f]{8}(?::|$)")


def name_of(installation: str) -> str:
    """A name for a snapshot that is made now."""
    return f"asynccode-kept-{installation}-{int(time.time())}-{secrets.token_hex(4)}"


def is_old(names: Iterable[str], installation: str, for_s: float) -> bool:
    """Whether a snapshot with these names is this installation's, and has been there for so long."""
    found = filter(None, map(_NAME.search, names))
    return any(match[1] == installation and time.time() - int(match[2]) >= for_s for match in found)
