"""The task of the pictures in docs/images: made up, as rows, with real trees. Run by `manage.py shell`; prints ids as JSON."""

import json
import sys
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from tasks.models import Check, Event, Patch, Repo, Run, Task
from tasks.running import events
from tests.browser.changes import beside, make

PROMPT = "Uploads fail for good when the storage answers 503. Retry with backoff and jitter, at most five times, and test it."
CLIENT = b'''"""Uploads to the storage."""

import requests

TIMEOUT_S = 30


class Client:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def put(self, key: str, body: bytes) -> None:
        response = requests.put(f"{self.base_url}/{key}", data=body, timeout=TIMEOUT_S)
        response.raise_for_status()

    def delete(self, key: str) -> None:
        requests.delete(f"{self.base_url}/{key}", timeout=TIMEOUT_S).raise_for_status()
'''
PUT = b"""        response = requests.put(f"{self.base_url}/{key}", data=body, timeout=TIMEOUT_S)
        response.raise_for_status()
"""
LOOPED = CLIENT.replace(b"import requests\n", b"import random\nimport time\n\nimport requests\n").replace(
    b"TIMEOUT_S = 30\n", b"TIMEOUT_S = 30\nMOST_TRIES = 5\n"
)
LOOPED = LOOPED.replace(
    PUT,
    b"""        for attempt in range(MOST_TRIES):
            response = requests.put(f"{self.base_url}/{key}", data=body, timeout=TIMEOUT_S)
            if response.status_code != 503 or attempt == MOST_TRIES - 1:
                break
            time.sleep(random.uniform(0, 2**attempt))
        response.raise_for_status()
""",
)
HELPED = CLIENT.replace(b"import requests\n", b"import requests\n\nfrom upload.retry import retrying\n").replace(
    PUT,
    b"""        address = f"{self.base_url}/{key}"
        response = retrying(lambda: requests.put(address, data=body, timeout=TIMEOUT_S))
        response.raise_for_status()
""",
)
RETRY = b"""import random
import time


def retrying(send, tries=5):
    for attempt in range(tries):
        response = send()
        if response.status_code != 503:
            return response
        time.sleep(random.random() * 2**attempt)
    return response
"""
TEST = b"""def test_a_503_is_tried_again(storage, client):
    storage.answers(503, 503, 200)
    client.put("a", b"x")
    assert storage.requests == 3
"""
ANSWER = (
    "A `503` is now retried up to five times, each pause a random part of 1, 2, 4 and 8 s. "
    "Other errors fail at once, as before. The new test fails without the change."
)
EVENTS = [
    ("status", {"status": "running"}),
    ("status", {"stage": "setup"}),
    ("log", {"stream": "stdout", "text": "\x1b[32mInstalled 31 packages\x1b[0m in 1.2s\n"}),
    ("status", {"stage": "agent"}),
    ("message", {"id": "1", "text": "I look at how uploads are sent, and at what the tests cover."}),
    (
        "plan",
        {
            "entries": [
                {"content": "Find where uploads are sent", "status": "completed"},
                {"content": "Retry a 503 with backoff and jitter", "status": "completed"},
                {"content": "Test it against a storage that answers 503", "status": "completed"},
            ]
        },
    ),
    ("tool_call", {"id": "a", "title": "Read src/upload/client.py", "tool": "read", "input": {"path": "src/upload/client.py"}}),
    ("tool_result", {"id": "a", "is_error": False, "output": CLIENT.decode(), "seconds": 0.1}),
    ("tool_call", {"id": "b", "title": "Edit src/upload/client.py", "tool": "edit", "input": {}}),
    (
        "tool_result",
        {
            "id": "b",
            "is_error": False,
            "output": "",
            "seconds": 0.2,
            "diffs": [{"path": "src/upload/client.py", "old": CLIENT.decode(), "new": LOOPED.decode()}],
        },
    ),
    ("tool_call", {"id": "c", "title": "pytest -q", "tool": "execute", "input": "pytest -q"}),
    ("tool_result", {"id": "c", "is_error": False, "output": "14 passed in 0.61s\n", "exit_code": 0, "seconds": 1.4}),
    ("message", {"id": "2", "text": ANSWER}),
]
OTHERS = (
    ("acme/web", "Drop Python 3.9", 1, 26),
    ("acme/queue", "Document the events of the queue", 3, 5),
    ("acme/web", "Cache thumbnails", 2, 2),
)  # repository, title, runs, hours ago

Task.objects.all().delete()
Repo.objects.all().delete()
now = timezone.now()
over = {"finished_at": now, "stage": "agent"}
for name, title, count, hours in OTHERS:
    run = Run.objects.get(pk=make({"README.md": b"# Here\n"}, {"README.md": b"# Here\n\nMore.\n"}))
    Run.objects.filter(pk=run.pk).update(agent="claude", **over)
    Task.objects.filter(pk=run.task_id).update(title=title, prompt=title, created_at=now - timedelta(hours=hours))
    Repo.objects.filter(pk=run.task.repo_id).update(name=name, prepares=False)
    for agent in ("codex", "gemini")[: count - 1]:
        more = run.task.runs.create(agent=agent, backend="local", branch=f"asynccode/{agent}", status="succeeded", **over)
        more.turns.create(number=1, prompt=title, author=run.task.owner, status="succeeded")
first = make(
    {"src/upload/client.py": CLIENT, "tests/test_client.py": b"", "README.md": b"# Uploader\n"},
    {"src/upload/client.py": LOOPED, "tests/test_client.py": TEST},
)
second = beside(
    first,
    {"src/upload/client.py": HELPED, "src/upload/retry.py": RETRY, "tests/test_client.py": TEST},
    agent="codex",
    started_at=now - timedelta(minutes=6),
    input_tokens=61_200,
    output_tokens=4_100,
    cost_usd="0.31",
    **over,
)
third = beside(
    first,
    {"src/upload/client.py": LOOPED},
    agent="gemini",
    started_at=now - timedelta(minutes=3),
    input_tokens=38_900,
    output_tokens=1_900,
    cost_usd="0.12",
    **over,
)
runs = Run.objects.filter(pk__in=(first, second, third))
runs.filter(pk=first).update(
    agent="claude", started_at=now - timedelta(minutes=4), input_tokens=48_000, output_tokens=3_200, cost_usd="0.42", **over
)
for run in runs.all():  # they are read anew below
    Run.objects.filter(pk=run.pk).update(attempt=1, branch=f"asynccode/{run.task_id}-retry-uploads-{run.agent}-1")
task = Task.objects.get(runs=first)
Task.objects.filter(pk=task.pk).update(title="Retry uploads that fail with 503", prompt=PROMPT, created_at=now - timedelta(minutes=6))
folder = task.repo.source
Repo.objects.filter(pk=task.repo_id).update(
    name="acme/uploader",
    source=f"{settings.GITHUB_URL}/acme/uploader",
    is_local=False,
    mirrored_at=now,
    check_command="make test",
    prepares=False,
)
same = {"repo": task.repo, "base_commit": task.base_commit, "backend": "local", "command": "make test"}
base = Check.objects.create(status="passed", exit_code=0, seconds=3, **same)
for run, status in ((first, "passed"), (second, "passed"), (third, "failed")):
    Check.objects.create(patch=Patch.objects.get(run=run), base=base, status=status, exit_code=int(status == "failed"), seconds=4, **same)
for run in runs:
    turn = run.turns.get()
    run.turns.update(prompt=PROMPT, answer=ANSWER, started_at=run.started_at, finished_at=now)
    for kind, data in EVENTS:
        events.append(run.pk, kind, data, turn_id=turn.pk)
    patch = Patch.objects.get(run=run)
    counted = {"files": len(patch.files), "additions": patch.additions, "deletions": patch.deletions}
    events.append(run.pk, "status", {"patch": "final", **counted}, turn_id=turn.pk)
    events.append(run.pk, "status", {"status": "succeeded"}, turn_id=turn.pk)
    stored = Event.objects.filter(run=run)
    for number, event in enumerate(stored):  # as if they had come one after the other
        stored.filter(pk=event.pk).update(at=run.started_at + (now - run.started_at) * number / len(stored))
sys.stdout.write(json.dumps({"task": task.pk, "run": first, "folder": folder}))
