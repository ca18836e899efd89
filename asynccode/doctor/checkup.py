"""The doctor's round: all checks at once, each with a limit, none able to end the others, and no secret in what is said."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import DatabaseError, connections

from asynccode.processes import command_line
from tasks.running.condition import Finding, said

LIMIT_S = 15.0
HIDDEN = "•••"
_SETTINGS = (
    *("SECRET_KEY", "E2B_API_KEY", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY"),
    *("GITHUB_CLIENT_SECRET", "GITHUB_TOKEN", "GITHUB_WEBHOOK_SECRET", "METRICS_TOKEN", "SENTRY_DSN"),
)

Check = Callable[[], Iterable[Finding]]


def examine(checks: Mapping[str, Check], *, limit_s: float = LIMIT_S) -> list[Finding]:
    """What the checks found, in their order. One that is not done within the limit is a problem, and left behind."""
    done: queue.Queue[tuple[str, list[Finding]]] = queue.Queue()
    for name, check in checks.items():
        threading.Thread(target=_put, args=(done, name, check), daemon=True).start()
    found: dict[str, list[Finding]] = {}
    deadline = time.monotonic() + limit_s
    while len(found) < len(checks):
        try:
            name, findings = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[name] = findings
    late = f"It was not done within {limit_s:.0f} s: something that it asks hangs."
    secret = secrets()
    return [_hidden(finding, secret) for name in checks for finding in found.get(name, [Finding.problem(name, late)])]


def _put(done: queue.Queue[tuple[str, list[Finding]]], name: str, check: Check) -> None:
    done.put((name, _found(name, check)))


def _found(name: str, check: Check) -> list[Finding]:
    try:
        return list(check())
    except DatabaseError as error:
        if is_asleep():
            return []
        return [Finding.warning(name, f"It could not be looked at, since the database does not answer: {said(error)}")]
    except Exception as error:  # a doctor that stumbles over what is broken is none
        return [Finding.problem(name, f"It could not be looked at ({type(error).__name__}): {said(error)}")]
    finally:
        connections.close_all()


def is_asleep() -> bool:
    """Whether the database is the embedded one and asynccode just does not run, which is no illness."""
    return settings.IS_DATABASE_EMBEDDED and not is_up()


def is_up() -> bool:
    """Whether `manage.py up` is at work on this data folder."""
    try:
        pid = int((settings.DATA / "lock").read_text())
    except (OSError, ValueError):
        return False
    return "manage.py" in command_line(pid)


def secrets() -> set[str]:
    """Words of the settings that nobody may read."""
    found = {getattr(settings, name) for name in _SETTINGS} | set(settings.ENCRYPTION_KEYS)
    for url in (settings.DATABASE_URL, settings.REDIS_URL):
        raw = urlsplit(url).password or ""
        found |= {raw, unquote(raw)}
    return {word for word in found if len(word) > 3}


def _hidden(finding: Finding, secret: Collection[str]) -> Finding:
    sentence = finding.sentence
    for word in sorted(secret, key=len, reverse=True):
        sentence = sentence.replace(word, HIDDEN)
    return Finding(finding.check, finding.state, sentence)
