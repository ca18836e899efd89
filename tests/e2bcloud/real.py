"""E2B itself, where tests of the loopback cloud can run against it as well: `make test-e2b`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from e2b import AsyncSandbox, SandboxQuery

IS_WANTED = os.environ.get("E2B_TESTS") == "real"


class RealCloud:
    """What `Cloud` is for tests, without the faults. `env` and `options` come from the environment's E2B_* variables."""

    def __init__(self) -> None:
        self.env = {name: value for name, value in os.environ.items() if name.startswith("E2B_") and name != "E2B_TESTS"}
        names = {"E2B_API_KEY": "api_key", "E2B_DOMAIN": "domain", "E2B_API_URL": "api_url", "E2B_SANDBOX_URL": "sandbox_url"}
        self.options: dict[str, Any] = {option: self.env[name] for name, option in names.items() if self.env.get(name)}

    def sandboxes(self, **metadata: str) -> list[dict[str, Any]]:
        """All with this metadata: id, state, metadata."""
        return asyncio.run(self._sandboxes(metadata))

    async def _sandboxes(self, metadata: dict[str, str]) -> list[dict[str, Any]]:
        found = []
        pages = AsyncSandbox.list(query=SandboxQuery(metadata=metadata), **self.options)
        while pages.has_next:
            found += await pages.next_items()
        return [{"id": one.sandbox_id, "state": one.state.value, "metadata": one.metadata} for one in found]

    def clear(self) -> None:
        """There are no faults here."""

    def __enter__(self) -> RealCloud:
        return self

    def __exit__(self, *exception: object) -> None: ...
