"""A pytest plugin (`-p tests.services`): a throwaway PostgreSQL and Valkey for the tests that need them.

The environment is set when this is imported, before Django reads its settings; the servers start with the first test
that asks for the database or for `services`. Where DATABASE_URL and REDIS_URL are set, those are used.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccode.embedded import Embedded

_HOME = Path(tempfile.mkdtemp(prefix="asynccode-test-", dir="/tmp"))  # short: the paths of sockets must be
_HOME.chmod(0o711)  # the accounts that servers and sandboxes run under have to pass through
_EMBEDDED = Embedded(
    _HOME,
    _HOME / "sockets",
    with_postgres="DATABASE_URL" not in os.environ,
    with_valkey="REDIS_URL" not in os.environ,
    is_durable=False,
)
os.environ |= {
    "ASYNCCODE_DATA": str(_HOME),
    "SECRET_KEY": "tests",
    "LOCAL_REPO_ROOTS": str(_HOME),
    **_EMBEDDED.environment(),
}


@pytest.fixture(scope="session")
def services() -> Iterator[None]:
    """PostgreSQL and Valkey, reachable by the settings."""
    _EMBEDDED.start()
    yield
    _EMBEDDED.stop()


@atexit.register
def _leave_nothing() -> None:
    _EMBEDDED.stop()  # where Ctrl-C kept the fixture from it
    shutil.rmtree(_HOME, ignore_errors=True)
