from __future__ import annotations

import re

from django.conf import settings

from asynccode.environment_docs import page

DOCUMENT = settings.BASE_DIR / "docs/environment.md"
READ = frozenset(settings.ENVIRONMENT)  # now, before other tests read variables that they made up


def test_the_document_is_what_the_example_makes() -> None:
    assert DOCUMENT.read_text() == page(), "Write it anew: scripts/environment-docs"


def test_each_variable_that_the_settings_read_is_in_it_once_with_words() -> None:
    rows = [line.split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`([A-Z0-9_]+)=", row[0])]

    assert len(listed) == len(set(listed))
    assert set(listed) >= READ
    assert all(len(row) == 2 and len(row[1]) > 20 for row in rows)
