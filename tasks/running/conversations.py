"""An agent's own file of its conversation: kept when a turn is over, so that the conversation can be gone on with on another machine."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator

from asgiref.sync import async_to_sync

from agents.adapters.base import Adapter
from agents.adapters.native import decoded
from agents.adapters.saved import Saved
from agents.registry import ADAPTERS
from sandboxes.errors import SandboxError
from tasks.models import Conversation, Run, Sandbox, SandboxStatus, Turn, TurnKind
from tasks.running import backends
from tasks.running.redact import Redactor, redactor

logger = logging.getLogger(__name__)

MOST_BYTES = 15_000_000  # a sandbox's answer is cut at 16 MiB
_FETCH_S = 30.0
_FETCH = f'for file in {{}}; do [ -f "$file" ] && exec head -c {MOST_BYTES + 1} "$file"; done'


def keep(turn: Turn) -> None:
    """Keep the conversation of a turn that is over, in place of the run's last one; its sandbox is still awake.

    It is an extra: whatever is the matter with it, or with the sandbox, is logged, and the turn has ended all the same.
    """
    try:
        _keep(turn)
    except SandboxError as error:
        logger.warning("The conversation of %s was not kept: %s", turn, error)
    except Exception:  # what is read is the agent's, and may be made to break us
        logger.exception("The conversation of %s was not kept.", turn)


def _keep(turn: Turn) -> None:
    adapter = ADAPTERS[turn.run.agent]
    saved = adapter.saved(turn.conversation)
    row = Sandbox.objects.filter(run=turn.run_id, generation=turn.run.generation, status=SandboxStatus.LIVE).first()
    if saved is None or row is None or turn.run.task.is_trial:
        return
    content = _fetch(row, saved)
    if len(content) > MOST_BYTES:
        logger.info("The conversation of %s was not kept: it has more than %d bytes.", turn, MOST_BYTES)
        return
    said = "".join(_portable(content, adapter, redactor(turn.run)))
    if said:
        Conversation.objects.update_or_create(run_id=turn.run_id, defaults={"turn": turn, "content": zlib.compress(said.encode())})


def _fetch(row: Sandbox, saved: Saved) -> bytes:
    async def fetch() -> bytes:
        box = await backends.backend(row.backend).connect(row.ref)
        return (await box.run(["sh", "-c", _FETCH.format(saved.pattern)], timeout=_FETCH_S)).stdout

    return async_to_sync(fetch)()


def _portable(content: bytes, adapter: Adapter, secrets: Redactor) -> Iterator[str]:
    """The lines that go elsewhere. One that is not whole, as the last one may be, is left out."""
    for line in content.splitlines():
        said = decoded(line.decode(errors="replace"))
        if said is not None and (taken := adapter.portable(said)) is not None:
            yield json.dumps(secrets.data(taken), separators=(",", ":")) + "\n"


def of_run(run: Run) -> tuple[Conversation, Saved] | None:
    """The conversation to go on with, if it has all that still counts in the run (its content is read when used): not if something
    came after it that it does not know of, such as going back."""
    last = run.turns.exclude(started_at=None).order_by("-number").first()
    if last is None or last.kind == TurnKind.REVERT or run.agent not in ADAPTERS:
        return None
    kept = Conversation.objects.filter(run=run, turn=last).defer("content").first()
    saved = ADAPTERS[run.agent].saved(last.conversation)
    return (kept, saved) if kept and saved else None


def content(kept: Conversation) -> bytes:
    return zlib.decompress(kept.content)
