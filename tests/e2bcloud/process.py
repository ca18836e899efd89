"""The cloud as tests use it: a process of its own, and what can be asked of it and done to it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).resolve().parents[2]
_STOP_S = 30.0


class Cloud:
    """A running cloud. `env` is what the SDK needs to find it; hand the same to AsyncSandbox by `options`."""

    def __init__(self, process: subprocess.Popen[str], root: Path, env: dict[str, str], *, owns_root: bool) -> None:
        self.process, self.root, self.env, self._owns_root = process, root, env, owns_root
        self.url = env["E2B_API_URL"]
        self.options: dict[str, Any] = {
            "api_key": env["E2B_API_KEY"],
            "api_url": env["E2B_API_URL"],
            "sandbox_url": env["E2B_SANDBOX_URL"],
        }

    @classmethod
    def start(cls, root: Path | None = None, *arguments: str) -> Cloud:
        """`root` must be a folder that the sandboxes' account can reach, which pytest's tmp_path is not; None makes one,
        which `stop` removes. `arguments` are the server's own, like "--concurrency", "3"."""
        owns_root = root is None
        if root is None:
            root = Path(tempfile.mkdtemp(prefix="e2bcloud-", dir="/tmp"))
        root.mkdir(parents=True, exist_ok=True)
        log = root / "server.log"
        with open(log, "ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2bcloud.server", "--root", str(root), *arguments],
                cwd=_CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        if not all(lines):
            process.kill()
            process.wait()
            process.stdout.close()
            said = log.read_text()
            if owns_root:
                shutil.rmtree(root, ignore_errors=True)
            raise RuntimeError(f"The cloud did not start: {said}")
        env = dict(line.partition("=")[::2] for line in lines)
        return cls(process, root, env, owns_root=owns_root)

    def stop(self) -> None:
        """Ends it and its sandboxes. May be called twice."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self._owns_root:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- what goes wrong ------------------------------------------------------------------------------------------------

    def fault(self, kind: str, **args: Any) -> int:
        """Set a fault; its id. See README.md for the kinds and what each takes; `count`, `path` and `sandbox` go with any."""
        number: int = self.control("POST", "faults", {"kind": kind, **args})["id"]
        return number

    def clear(self, number: int | None = None) -> None:
        """One fault, or all."""
        self.control("DELETE", "faults" if number is None else f"faults/{number}")

    def faults(self) -> list[dict[str, Any]]:
        """Those that are set, with their `hits`."""
        found: list[dict[str, Any]] = self.control("GET", "faults")
        return found

    def vanish(self, sandbox_id: str, *, after: float = 0) -> None:
        """Lose a sandbox, now (it is gone when this returns) or in so many seconds."""
        self.control("POST", f"vanish/{sandbox_id}", {"after": after})

    # --- what is there --------------------------------------------------------------------------------------------------

    def sandboxes(self, **metadata: str) -> list[dict[str, Any]]:
        """All that run or are paused, those with this metadata only: id, state, template, metadata, envs, network,
        allow_internet_access, on_timeout, auto_resume, timeout_left, root, token, processes (by the host's ids)."""
        found: list[dict[str, Any]] = self.control("GET", "sandboxes")
        return [one for one in found if metadata.items() <= one["metadata"].items()]

    def requests(self) -> list[dict[str, Any]]:
        """All that were made, in order: method, path, at, sandbox (of a call to envd), status (of a call to the API)."""
        found: list[dict[str, Any]] = self.control("GET", "requests")["requests"]
        return found

    def counts(self) -> dict[str, int]:
        """How often each call was made, like "POST /v2/sandboxes"; an id in a path is a *."""
        found: dict[str, int] = self.control("GET", "requests")["counts"]
        return found

    def forget_requests(self) -> None:
        self.control("DELETE", "requests")

    def builds(self) -> list[dict[str, Any]]:
        """The templates that were built: name, tags, request, steps, uploads, status, log."""
        found: list[dict[str, Any]] = self.control("GET", "builds")
        return found

    def add_template(self, name: str) -> None:
        self.control("POST", "templates", {"name": name})

    def settings(self, **values: Any) -> dict[str, Any]:
        """Change max_life, concurrency, creations_per_s for what comes; all of them as they are now."""
        now: dict[str, Any] = self.control("POST", "settings", values)
        return now

    def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_control/{path}", content, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as refused:
            with refused:
                raise ValueError(refused.read().decode()) from None

    def host_pids(self, **metadata: str) -> set[int]:
        """The processes of all sandboxes (with this metadata) now, to look for them later."""
        return {int(pid) for sandbox in self.sandboxes(**metadata) for pid in sandbox["processes"]}


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
