"""A pytest plugin (`-p tests.services`): a throwaway PostgreSQL and Valkey for the tests that need them.

The environment is set when this is imported, before Django reads its settings; the servers start with the first test
that asks for the database or for `services`. Where DATABASE_URL and REDIS_URL are set, those are used. Each process of
pytest-xdist has servers of its own.
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
_OURS = "ASYNCCODE_TEST_SERVERS"  # which of the variables below are set by us, as the processes that inherit them have to know
_GIVEN = set(os.environ) - set(os.environ.get(_OURS, "").split())
_EMBEDDED = Embedded(
    _HOME,
    _HOME / "sockets",
    with_postgres="DATABASE_URL" not in _GIVEN,
    with_valkey="REDIS_URL" not in _GIVEN,
    is_durable=False,
)
os.environ |= {
    "ASYNCCODE_DATA": str(_HOME),
    "SECRET_KEY": "tests",
    "LOCAL_REPO_ROOTS": str(_HOME),
    **_EMBEDDED.environment(),
    _OURS: " ".join(_EMBEDDED.environment()),
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
