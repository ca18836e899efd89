"""How log lines look, and what must not stand in them."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from tasks.running import log_context

_LINK = re.compile(r"(/sign-in/link/)[^/\s]+")


def hide_links(text: str) -> str:
    """Login links without what signs in."""
    return _LINK.sub(r"\1…", text)


class HideLinks(logging.Filter):
    """Login links are written without what signs in: a refused request, which Django logs with its path, has not used it up."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if _LINK.search(text):
            record.msg, record.args = hide_links(text), ()
        return True


class AsJson(logging.Formatter):
    """One JSON object a line: at (ISO 8601, UTC), level, logger, message, process; the ids of what the work is about (run, task, turn,
    user, job, …); error, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **log_context.current(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        # Letters as they are; halves of surrogate pairs, which no stream takes, become JSON's own escapes of them.
        return json.dumps(told, default=str, ensure_ascii=False).encode(errors="backslashreplace").decode()


def service_line(service: str, text: str) -> str:
    """A line of one of our services as JSON with its name; one that is no JSON is its message."""
    if text.startswith('{"at": '):
        return f'{{"service": {json.dumps(service)}, {text[1:]}'
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"service": service, "at": at, "message": text})
