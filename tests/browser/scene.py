"""A task with runs of every status, and what else there is a page for. Run by `manage.py shell`; prints ids as JSON."""

import base64
import json
import sys
from datetime import timedelta

from django.template.loader import render_to_string
from django.utils import timezone

from tasks import accounts
from tasks.models import (
    ApiToken,
    Artifact,
    Check,
    Comment,
    Operation,
    Patch,
    PreparedEnvironment,
    PromptTemplate,
    Repo,
    Run,
    Sandbox,
    Task,
    Turn,
    User,
)
from tasks.review.diffs import anchor
from tasks.running import events
from tests.browser.changes import beside, make

owner = User.objects.filter(is_staff=True).order_by("pk").first()
newcomer = User.objects.create_user("newcomer")
now = timezone.now()
repo = Repo.objects.create(
    owner=owner,
    source="https://example.org/acme/uploader",
    name="acme/uploader",
    default_branch="main",
    mirrored_at=now,
    has_lfs=True,
    has_submodules=True,
    setup_script="npm ci",
)
broken = Repo.objects.create(owner=owner, source="https://example.org/acme/broken", name="acme/broken")
Operation.objects.create(kind="mirror", subject=f"repo:{broken.pk}", status="failed", error="There is no repository at this address.")
repo.variables.create(name="NPM_TOKEN", value="secret", is_secret=True, phase="setup")
repo.variables.create(name="CI", value="1", is_secret=False, phase="agent")
for status, error in (("ready", ""), ("failed", "The setup script ended with exit code 1. Its output is in the log.")):
    PreparedEnvironment.objects.create(
        repo=repo,
        backend="local",
        key=status,
        base_commit="4f2c91e0" * 5,
        status=status,
        error=error,
        log="\x1b[32madded\x1b[0m 7 packages\n",
    )
task = Task.objects.create(
    owner=owner,
    repo=repo,
    title="Retry uploads that fail with 503",
    base_branch="main",
    base_commit="4f2c91e0" * 5,
    prompt="Uploads fail for good when the storage answers 503.\nRetry with backoff and jitter, at most five times.",
)
Task.objects.create(owner=owner, repo=repo, title="Put away", prompt="x", base_branch="main", base_commit="a" * 40, archived_at=now)
PATCH = b"diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n-old\n+new\n same\n"
FILES = [
    {
        "path": "src/upload/" + 8 * "very_long_name_" + ".py",
        "old_path": None,
        "state": "modified",
        "additions": 12,
        "deletions": 3,
        "is_binary": False,
    },
    {"path": "new.py", "old_path": None, "state": "added", "additions": 4, "deletions": 0, "is_binary": False},
    {"path": "gone.png", "old_path": None, "state": "deleted", "additions": 0, "deletions": 0, "is_binary": True},
    {"path": "b.py", "old_path": "a.py", "state": "renamed", "additions": 0, "deletions": 0, "is_binary": False},
]
PICTURE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")
WORDS = """
The storage may send `Retry-After`; I **honour** it.

- one
- two

```python
response.raise_for_status()
```

| a | b |
|---|---|
| 1 | 2 |
"""
EVENTS = [
    ("status", {"status": "starting"}),
    ("status", {"status": "running"}),
    ("status", {"stage": "setup"}),
    ("log", {"stream": "stdout", "text": "\x1b[32madded 214 packages\x1b[0m in 3s\n"}),
    ("log", {"stream": "stderr", "text": "\x1b[1;31mwarning\x1b[0m: deprecated\n"}),
    ("log", {"stream": "network", "text": "refused telemetry.example.com:443\n"}),
    ("log", {"stream": "stdout", "text": "".join(f"line {n}\n" for n in range(400))}),
    ("status", {"stage": "agent"}),
    ("thought", {"id": "t", "text": "Where are uploads sent from?"}),
    ("message", {"id": "m", "text": WORDS}),
    (
        "plan",
        {
            "entries": [
                {"content": "Find where uploads are sent", "status": "completed"},
                {"content": "Count confirmed parts only", "status": "in_progress"},
                {"content": "Tests", "status": "pending"},
            ]
        },
    ),
    (
        "tool_call",
        {
            "id": "1",
            "title": "Read src/upload/client.py",
            "tool": "read",
            "input": {"path": "src/upload/client.py"},
            "locations": [{"path": "src/upload/client.py", "line": 3}],
        },
    ),
    ("tool_result", {"id": "1", "is_error": False, "output": "def put(self):\n    pass\n", "seconds": 0.1}),
    ("tool_call", {"id": "2", "title": "pytest -q", "tool": "execute", "input": "pytest -q"}),
    ("tool_result", {"id": "2", "is_error": True, "output": "1 failed\n", "exit_code": 1, "seconds": 4.8}),
    ("tool_call", {"id": "3", "title": "Edit a.py", "tool": "edit", "input": {}}),
    (
        "tool_result",
        {"id": "3", "is_error": False, "output": "", "seconds": 0.2, "diffs": [{"path": "a.py", "old": "old\n", "new": "new\n"}]},
    ),
    ("usage", {"input_tokens": 4000, "output_tokens": 900, "cost_usd": 0.12}),
    ("error", {"text": "The model is overloaded.", "class": "overloaded", "advice": "Try again in a minute."}),
    ("status", {"step": "agent", "ended": {"reason": "exit", "code": 1, "seconds": 71.5}}),
    ("status", {"notice": "This sandbox ends at 16:02 UTC, as the plan of E2B has it."}),
    ("status", {"patch": "final", "files": 4, "additions": 16, "deletions": 3}),
]
ids = {}
ENDS = {
    "succeeded": "",
    "failed": "The tests fail. Look at the log, then follow up or retry.",
    "errored": "The disk is full.",
    "canceled": "",
    "interrupted": "",
    "waiting": "",
}
for number, (status, error) in enumerate(ENDS.items(), 1):
    run = Run.objects.create(
        task=task,
        agent="shell",
        attempt=number,
        backend="local",
        branch=f"asynccode/{task.pk}-{number}",
        status=status,
        stage="checkout" if status == "errored" else "agent",
        error=error,
        started_at=now - timedelta(minutes=9),
        finished_at=None if status == "waiting" else now,
        input_tokens=48000,
        output_tokens=1200,
        cost_usd="0.62",
    )
    turn = Turn.objects.create(run=run, number=1, prompt=task.prompt, author=owner, status=status, started_at=run.started_at)
    Patch.objects.create(
        run=run,
        turn=turn,
        kind="final",
        content=PATCH,
        sha256="0" * 64,
        files=FILES,
        additions=16,
        deletions=3,
        left_out=[{"path": "huge.bin", "bytes": 99000000, "reason": "larger than 10 MB"}],
    )
    for kind, data in EVENTS:
        events.append(run.pk, kind, data, turn_id=turn.pk)
    events.append(run.pk, "status", {"status": status, "error": error} if error else {"status": status}, turn_id=turn.pk)
    ids[status] = run.pk
fallen_back = "E2B refused the account (401: the key is revoked), so this run is on this machine."
microvm = {"isolation": "E2B microVM", "template": "asynccode-1f2e3d4c5b", "cpus": 2, "memory_mb": 2048, "keys": "headers"}
for status, generation, backend, notice in (
    ("failed", 1, "e2b", "E2B does not record what a sandbox tries to reach."),
    ("failed", 2, "local", fallen_back),
):
    Sandbox.objects.create(
        run_id=ids[status],
        generation=generation,
        backend=backend,
        status="destroyed",
        destroyed_at=now,
        record=microvm if backend == "e2b" else {},
        notice=notice,
    )
prompt = PromptTemplate.objects.create(owner=owner, name="Upgrade a dependency", prompt="Upgrade {name}.")
token = ApiToken.objects.create(user=owner, name="laptop", digest="0" * 64, hint="ac_12345")
lines = [f"line {number} of many\n".encode() for number in range(80)]
changed = make(
    {"src/app/main.py": b"".join(lines), "old name.md": b"# Words\n" * 9, "logo.png": PICTURE, "gone.sh": b"true\n"},
    {
        "src/app/main.py": b"".join([*lines[:60], b"def new():\n", b"    return 1  # more\n", *lines[62:]]),
        "old name.md": None,
        "docs/new name.md": b"# Words\n" * 9,
        "logo.png": PICTURE + b"\0",
        "gone.sh": None,
        "yarn.lock": b"x\n",
        "data.bin": b"\0",
        "odd \u202e <name>.txt": "a\u202eb\n".encode(),
    },
)
turn = Turn.objects.get(run=changed)
for path, content, why in (("shots/home.png", PICTURE, ""), ("report <b>.html", b"<h1>", ""), ("film.mp4", b"", "size")):
    kept = {"sha256": "0" * 64 if content else "", "left_out": why, "secrets_found": ["TOKEN"] if path.startswith("report") else []}
    Artifact.objects.create(run_id=changed, turn=turn, path=path, content=content, size=len(content), **kept)
main_py = {
    "run_id": changed,
    "author": owner,
    "file": anchor("src/app/main.py"),
    "path": "src/app/main.py",
    "blob": "0" * 40,
    "side": "new",
}
for words, sent in (("Why **this**?", None), ("Say `more`.", Turn.objects.get(run=changed))):  # of a content that is lost: outdated
    Comment.objects.create(start_line=1, end_line=2, quote="x = 1", body=words, turn=sent, **main_py)
over = {"agent": "codex", "model": "gpt-5", "started_at": now - timedelta(minutes=3), "finished_at": now, "cost_usd": "0.31"}
other = beside(
    changed,
    {"src/app/main.py": b"".join([*lines[:60], b"def new():\n", b"    return 2\n", *lines[62:]]), "gone.sh": None, "yarn.lock": b"x\n"},
    chosen_at=now,
    **over,
)
failing = beside(changed, {"docs/guide.md": b"# Guide\n", "yarn.lock": b"y\n"}, **over | {"status": "failed", "error": "The tests fail."})
compared = Run.objects.get(pk=changed).task
alike = {"repo": compared.repo, "base_commit": compared.base_commit, "backend": "local", "command": "make test"}
base_check = Check.objects.create(status="failed", output="1 failed\n", exit_code=1, **alike)
for pk, status in ((changed, "passed"), (other, "failed"), (failing, "errored")):
    Check.objects.create(patch=Patch.objects.get(run=pk), base=base_check, status=status, output="1 failed\n", seconds=3, **alike)
Repo.objects.filter(pk=compared.repo_id).update(check_command="make test")
bare = {"500": render_to_string("500.html"), "503": render_to_string("503.html", {"is_read": True, "seconds": 5})}
sys.stdout.write(
    json.dumps(
        {
            "task": task.pk,
            "repo": repo.pk,
            "broken": broken.pk,
            "prompt": prompt.pk,
            "token": token.pk,
            "bare": bare,
            "changed": changed,
            "compared": compared.pk,
            "other": other,
            "failing": failing,
            "main_file": anchor("src/app/main.py"),
            "link": accounts.create_login_link(user=newcomer),
            **ids,
        }
    )
)
