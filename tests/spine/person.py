"""Somebody who uses a product: through its pages, over HTTP, as a browser without JavaScript would; and an operator's Python."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import httpx

from agents.registry import ADAPTERS
from tests.spine.product import Product

# Python with the product's settings: takes code as a JSON string a line, answers with what it printed, or its traceback.
_PYTHON = """
import contextlib, io, json, sys, traceback
import django
django.setup()
from django.db import connections
for line in sys.stdin:
    printed, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(printed):
            exec(json.loads(line), {"__name__": "__main__"})
    except Exception:
        error = traceback.format_exc()
    connections.close_all()
    print(json.dumps([printed.getvalue(), error]), flush=True)
"""


class Person:
    def __init__(self, product: Product) -> None:
        self.product = product
        self._client = httpx.Client(base_url=product.url, timeout=60, trust_env=False)
        self._python = subprocess.Popen(
            [sys.executable, "-c", _PYTHON],
            env=product.environment,
            cwd=product.source,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        found = re.search(r"/sign-in/link/\S+", product.manage("login-link").stdout)
        assert found
        self._client.get(found[0])
        self.post(found[0])

    def close(self) -> None:
        self._client.close()
        assert self._python.stdin
        assert self._python.stdout
        self._python.stdin.close()
        self._python.stdout.close()
        self._python.wait(20)

    @property
    def cookies(self) -> dict[str, str]:
        """Those of the session, for a browser."""
        return dict(self._client.cookies)

    # --- pages ----------------------------------------------------------------------------------------------------------

    def get(self, path: str) -> str:
        answer = self._client.get(path, follow_redirects=True)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        return answer.text

    def post(self, path: str, files: list[tuple[str, tuple[str, bytes]]] | None = None, **fields: Any) -> str:
        """Send a form; the address it leads to."""
        answer = self._client.post(path, data={"csrfmiddlewaretoken": self._client.cookies["csrftoken"], **fields}, files=files)
        assert answer.status_code in (302, 303), f"{path}: {answer.status_code} {_errors(answer.text)}"
        return answer.headers["Location"]

    def start(self, prompt: str, *agents: str, mode: str = "code", files: dict[str, bytes] | None = None) -> dict[str, int]:
        """A task of these agents (NAME or NAME:MODEL), one attempt each: agent → run."""
        return {run["agent"]: run["id"] for run in self.task(prompt, dict.fromkeys(agents, 1), mode=mode, files=files)}

    def task(
        self, prompt: str, agents: dict[str, int], *, mode: str = "code", files: dict[str, bytes] | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a new task's runs; `agents`: NAME or NAME:MODEL → number of attempts."""
        repo = self.product.rows("SELECT id FROM tasks_repo ORDER BY id LIMIT 1")[0]["id"]
        fields = {f"runs-{with_model(agent)}": attempts for agent, attempts in agents.items()}
        attached = [("files", (name, content)) for name, content in (files or {}).items()]
        place = self.post("/tasks/new", files=attached or None, prompt=prompt, repo=repo, mode=mode, **fields)
        found = re.search(r"/tasks/(\d+)/", place)
        assert found, place
        return self.product.rows("SELECT * FROM tasks_run WHERE task_id = %s ORDER BY id", int(found[1]))

    def follow_up(self, run: int, prompt: str) -> None:
        self.post(f"/runs/{run}/follow-up", prompt=prompt)

    def stop(self, run: int) -> None:
        self.post(f"/runs/{run}/stop")

    # --- an operator ----------------------------------------------------------------------------------------------------

    def do(self, code: str) -> str:
        """What this code prints, run in a Python that uses this product's services."""
        assert self._python.stdin
        assert self._python.stdout
        self._python.stdin.write(json.dumps(code) + "\n")
        self._python.stdin.flush()
        printed, error = json.loads(self._python.stdout.readline())
        assert not error, error
        return str(printed).strip()

    def verb(self, run: int, call: str) -> str:
        """What a verb gives, such as "turns.branch_run(run=run, by=user, after=1, prompt='…').pk"."""
        return self.do(
            "from tasks import services, turns\n"
            "from tasks.models import Run\n"
            f"run = Run.objects.select_related('task__owner').get(pk={run})\n"
            "user = run.task.owner\n"
            f"print({call})"
        )


def with_model(agent: str) -> str:
    """As the composer names it: with the agent's default model if it has any."""
    if ":" in agent or not (models := ADAPTERS[agent].models):
        return agent
    return f"{agent}:{models[0].name}"


def _errors(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())[:2000]
