"""The words of an e-mail: plain text, in which nothing hides, with a link."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from agents.registry import ADAPTERS
from tasks.models import RunStatus

_HOW = {
    RunStatus.WAITING: "waits for you",
    RunStatus.SUCCEEDED: "has finished",
    RunStatus.FAILED: "has failed",
    RunStatus.ERRORED: "could not go on",
    RunStatus.INTERRUPTED: "was interrupted",
}


def of(payload: dict[str, Any]) -> tuple[str, str]:
    """Subject and text for a payload of `announcing`."""
    run, task = payload["run"], payload["task"]
    adapter = ADAPTERS.get(run["agent"])
    agent = adapter.label if adapter else run["agent"]
    what = f"{agent} {_HOW[RunStatus(run['status'])]}"
    changes = f"{run['files_changed']} file{'' if run['files_changed'] == 1 else 's'} changed, +{run['additions']} −{run['deletions']}"
    lines = [
        f"{what}: {_line(task['title'])}",
        "",
        f"Repository: {_line(task['repository'])}",
        *([changes] if run["files_changed"] else []),
        *([f"Error: {_line(run['error'])}"] if run["error"] else []),
        "",
        run["url"],
        "",
        f"You get this because of your settings: {settings.BASE_URL}/settings/webhooks/",
    ]
    return f"{what}: {_line(task['title'])}"[:150], "\n".join(lines)


def message_id(key: str) -> str:
    """The same for all attempts, so that a mail that comes twice is shown once."""
    return f"<{key}@{urlsplit(settings.BASE_URL).hostname}>"


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))
