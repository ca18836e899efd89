"""What must not stand in the log."""

from __future__ import annotations

import logging
import re

_LINK = re.compile(r"(/sign-in/link/)[^/\s]+")


class HideLinks(logging.Filter):
    """Login links are written without what signs in: a refused request, which Django logs with its path, has not used it up."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if _LINK.search(text):
            record.msg, record.args = _LINK.sub(r"\1…", text), ()
        return True
