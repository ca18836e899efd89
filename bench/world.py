"""An installation that has been at work for two years: users, repositories, tasks, runs and all that belongs to them.

Everything follows from the number of tasks. The first user is an operator who has half of all tasks. Of every thousand tasks the
number 5 is the same in a world of any size (`TASK`), and the newest are at work or wait, as it is in life.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.utils import timezone

from bench.rows import Table
from tasks.git import mirrors
from tasks.git.sources import parse_source
from tasks.models import (
    Check,
    Event,
    ModelCall,
    Operation,
    Patch,
    PromptTemplate,
    Publication,
    PullRequest,
    Repo,
    Run,
    Sandbox,
    Task,
    Turn,
    User,
)

TASK = 5  # five runs, whose first has a long log; its patches can be looked at
RUNS = (1, 2, 3, 4, 5)  # of tasks in turn
EVENTS = 10  # of a run
LONG = 12_000  # events of a long run, of which there are at most MOST_LONG
MOST_LONG = 30
AT_WORK = 24  # newest tasks, with runs of every status
IN_QUEUE = 120
USERS = 8
AT_ONCE = 1000  # tasks

_AGENTS = (("claude", "opus"), ("codex", "gpt-5"), ("gemini", "pro"), ("claude", "sonnet"), ("shell", ""))
_STATUSES = ("succeeded",) * 70 + ("failed",) * 14 + ("canceled",) * 8 + ("errored",) * 4 + ("interrupted",) * 3 + ("waiting",)
_FRESH = ("running", "queued", "waiting", "succeeded", "failed", "starting", "errored", "queued")
_OVER = ("succeeded", "failed", "errored", "canceled", "interrupted")
_FILES, _CHANGED = 30, 4  # of the repository; in a patch
_VARIANTS = 12
_FIRST, _LAST = ("ba", "ce", "di", "fo", "gu", "ha", "ki", "lo", "mu", "ne", "po", "ra"), ("der", "ling", "max", "ton", "wer", "ris", "bol")
_WORDS = [f"{first}{last}" for first in _FIRST for last in _LAST]
_VERBS = ("fix", "add", "remove", "rename", "test", "document", "speed")
RARE = "zebra"  # in one prompt of a thousand


@dataclass
class World:
    """What was made, and the ids of what is looked at."""

    tasks: int
    runs: int
    events: int
    insert_s: float
    long_run: int


@dataclass(frozen=True)
class _Task:
    """What the rows of a task's runs are made of. `age` is the number of tasks since."""

    id: int
    owner: int
    repo: int
    prompt: str
    at: datetime
    age: int
    is_archived: bool


class _Maker:
    def __init__(self, tasks: int, commit: str, patches: list[bytes]) -> None:
        self.tasks, self.commit = tasks, commit
        self.chance = random.Random(8)
        self.now = timezone.now()
        self.patches = [(content, hashlib.sha256(content).hexdigest(), _listed(content)) for content in patches]
        self.task = self.run = self.turn = self.patch = self.check = self.events = self.queued = 0
        self.long_run = 0
        models = (Task, Run, Turn, Patch, PullRequest, Publication, Check, Sandbox, ModelCall, Operation)
        self.tables = {model: Table(model) for model in models}
        self.event = Table(Event)
        self.bodies = _Bodies(self.chance)

    def rows(self) -> Iterator[None]:
        """Add the rows of all tasks; whoever iterates sends them, every so often."""
        for number in range(1, self.tasks + 1):
            self._task(number)
            if number % AT_ONCE == 0 or number == self.tasks:
                yield

    def _task(self, number: int) -> None:
        chance, age = self.chance, self.tasks - number
        is_special = number % 1000 == TASK
        owner = 1 if is_special or number % 2 else chance.randrange(2, USERS + 1)
        repo = 1 if is_special else (owner - 1) * 10 + chance.randrange(1, 11)
        at = self.now - timedelta(days=730) * (age / self.tasks) - timedelta(minutes=5)
        words = [chance.choice(_VERBS), *chance.choices(_WORDS, weights=range(len(_WORDS), 0, -1), k=40)]
        prompt = " ".join(words) + (f" {RARE}" if number % 1000 == TASK + 1 else "")
        self.task += 1
        is_archived = age > IN_QUEUE and not is_special and chance.random() < 0.3
        task = _Task(self.task, owner, repo, prompt, at, age, is_archived)
        self._add(
            Task, id=task.id, owner_id=owner, repo_id=repo, title=prompt[:60], prompt=prompt, base_branch="main", base_commit=self.commit,
            created_at=at, archived_at=at + timedelta(days=2) if is_archived else None,
        )  # fmt: skip
        attempts: dict[tuple[str, str], int] = {}
        runs = RUNS[(number - 1) % len(RUNS)]
        chosen = chance.randrange(runs) if runs > 1 and age > IN_QUEUE and chance.random() < 0.3 else None
        for place in range(runs):
            agent = _AGENTS[place] if is_special else chance.choice(_AGENTS)
            attempts[agent] = attempts.get(agent, 0) + 1
            status = "succeeded" if is_special or place == chosen else self._status(age, place)
            is_long = is_special and place == 0 and number < MOST_LONG * 1000
            run = self._run(task, agent, attempts[agent], status, is_long=is_long, is_chosen=place == chosen)
            self.long_run = self.long_run or (run if is_long else 0)

    def _status(self, age: int, place: int) -> str:
        if age < AT_WORK:
            return _FRESH[(age + place) % len(_FRESH)]
        return "queued" if age < IN_QUEUE else self.chance.choice(_STATUSES)

    def _run(self, task: _Task, agent: tuple[str, str], attempt: int, status: str, *, is_long: bool, is_chosen: bool) -> int:
        if task.is_archived and status == "waiting":
            status = "canceled"
        self.run += 1
        self.turn += 1
        run, turn, at = self.run, self.turn, task.at
        took = timedelta(seconds=self.chance.expovariate(1 / 300) + 5)
        has_begun, has_ended = status != "queued", status in (*_OVER, "waiting")
        started, finished = (at if has_begun else None), (at + took if has_ended else None)
        tokens = self.chance.randrange(5_000, 400_000)
        used = {"input_tokens": tokens, "output_tokens": tokens // 12, "cost_usd": Decimal(tokens) / 100_000} if has_begun else {}
        count = 0 if not has_begun else LONG if is_long else EVENTS
        error = "The agent ended with code 1. Its log says why." if status in ("failed", "errored") else ""
        self._add(
            Run, id=run, task_id=task.id, agent=agent[0], model=agent[1], attempt=attempt, backend="local",
            branch=f"asynccode/{task.id}-{run}", status=status, stage="agent" if has_begun else "", error=error, next_seq=count + 1,
            queued_at=at, started_at=started, finished_at=finished, chosen_at=finished if is_chosen else None, **used,
        )  # fmt: skip
        self._add(
            Turn, id=turn, run_id=run, number=1, prompt=task.prompt, author_id=task.owner, status=status, generation=1,
            answer="It is done." if status == "succeeded" else "", created_at=at, started_at=started, finished_at=finished, **used,
        )  # fmt: skip
        if not has_begun:
            return run
        is_kept = not task.is_archived and (status == "waiting" or task.age < self.tasks / 100)  # a week of two years
        self._add(
            Sandbox, id=run, run_id=run, generation=1, backend="local", host=settings.HOST_NAME, ref=f"sandbox-{run}",
            status={"running": "live", "starting": "starting"}.get(status, "paused" if is_kept else "destroyed"),
            record={"isolation": "bubblewrap"}, created_at=at, seen_at=finished,
        )  # fmt: skip
        self._add(
            ModelCall, id=run, user_id=task.owner, run_id=run, turn_id=turn, provider="anthropic", model=agent[1], status=200, at=at, **used
        )
        self._log(run, turn, at, count)
        if status in ("succeeded", "failed", "waiting", "running"):
            self._patch(task, run, turn, status, is_checked=task.age % 10 == 0 or is_long)
        return run

    def _log(self, run: int, turn: int, at: datetime, count: int) -> None:
        self.events += count
        when = at.isoformat()
        self.event.add_lines(f"{run}\t{seq}\t{turn}\t{self.bodies.of(seq, count)}\t{when}" for seq in range(1, count + 1))

    def _patch(self, task: _Task, run: int, turn: int, status: str, *, is_checked: bool) -> None:
        content, digest, files = self.patches[run % len(self.patches)]
        self.patch += 1
        patch, at, lines = self.patch, task.at, len(files) * 3
        self._add(
            Patch, id=patch, run_id=run, turn_id=turn, kind="checkpoint" if status == "running" else "final", content=content,
            sha256=digest, files=files, additions=lines, deletions=lines, created_at=at,
        )  # fmt: skip
        if status != "succeeded":
            return
        if is_checked:
            self._check(patch, task)
        if run % 10 == 0:
            name, branch = f"acme/repo{task.repo}", f"asynccode/{task.id}-{run}"
            state = ("merged", "closed", "open", "draft")[max(run // 10 % 20 - 16, 0)]
            self._add(
                PullRequest, id=run, run_id=run, repository=name, number=run, url=f"https://github.com/{name}/pull/{run}", branch=branch,
                base="main", state=state, checks="success", seen_at=at, created_at=at,
            )  # fmt: skip
            self._add(Publication, id=run, run_id=run, by_id=task.owner, patch_id=patch, message="x", title="x", base="main", pushed=digest)
            self._add(
                Operation, id=run, kind="pull_request", subject=f"run:{run}", status="succeeded", percent=100, created_at=at, finished_at=at
            )

    def _check(self, patch: int, of: _Task) -> None:
        """A check, and the unlisted run that did it. The base's check has the repository's number."""
        at = of.at
        self.task += 1
        self.run += 1
        self.turn += 1
        self.check += 1
        self._add(
            Task, id=self.task, owner_id=of.owner, repo_id=of.repo, title="Check", prompt="make check", base_branch="main",
            base_commit=self.commit, created_at=at, is_trial=True,
        )  # fmt: skip
        self._add(
            Run, id=self.run, task_id=self.task, agent="shell", backend="local", branch=f"asynccode/{self.run}", status="succeeded",
            stage="agent", queued_at=at, started_at=at, finished_at=at + timedelta(seconds=12),
        )  # fmt: skip
        self._add(
            Turn, id=self.turn, run_id=self.run, number=1, prompt="make check", author_id=of.owner, status="succeeded", created_at=at,
            started_at=at, finished_at=at,
        )  # fmt: skip
        self._add(
            Check, id=self.check + USERS * 10, repo_id=of.repo, patch_id=patch, base_id=of.repo, run_id=self.run, base_commit=self.commit,
            command="make check", backend="local", status=("passed", "passed", "failed")[patch % 3], exit_code=0, seconds=12.0,
            output="ok\n" * 20, created_at=at, finished_at=at,
        )  # fmt: skip

    def _add(self, model: type, /, **values: object) -> None:
        self.tables[model].add(**values)


class _Bodies:
    """What events say: kind and data, in COPY's format."""

    def __init__(self, chance: random.Random) -> None:
        texts = [" ".join(chance.choices(_WORDS, k=12)) for _ in range(200)]
        self._texts = [json.dumps(text) for text in texts]

    def of(self, seq: int, count: int) -> str:
        text = self._texts[seq * 7 % len(self._texts)]
        if seq == 1:
            return 'status\t{"status": "starting"}'
        if seq == 2:
            return 'status\t{"stage": "agent"}'
        if seq == count - 1:
            return 'usage\t{"model": "opus", "input_tokens": 5000, "output_tokens": 400, "cost_usd": "0.05"}'
        if seq == count:
            return 'status\t{"status": "succeeded"}'
        match seq % 6:
            case 3:
                return f'message\t{{"text": {text}}}'
            case 4:
                return f'tool_call\t{{"id": "c{seq}", "title": "Edit file", "tool": "edit", "input": {text}}}'
            case 5:
                return f'tool_result\t{{"id": "c{seq - 1}", "is_error": false, "output": {text}, "seconds": 0.4}}'
        return f'log\t{{"stream": "stdout", "text": {text}}}'


def make(tasks: int, home: Path) -> World:
    """Fill the empty database, and make the repository whose changes can be looked at; `home` gets what it is made of."""
    commit, patches = _repository(home)
    began = time.perf_counter()
    maker = _Maker(tasks, commit, patches)
    _people(maker)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # rows are consistent as they are made: no trigger for each
        for _ in maker.rows():
            for table in (*maker.tables.values(), maker.event):
                table.flush()
        cursor.execute("SET session_replication_role = origin")
        for table in (*maker.tables.values(), Table(User), Table(Repo), Table(PromptTemplate)):
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence(%s, 'id'), (SELECT coalesce(max(id), 1) FROM {table.name}))", [table.name]
            )
        cursor.execute("VACUUM ANALYZE")  # as autovacuum does
    return World(maker.task, maker.run, maker.events, time.perf_counter() - began, maker.long_run)


def _people(maker: _Maker) -> None:
    now = maker.now
    users, repos, checks, prompts = Table(User), Table(Repo), Table(Check), Table(PromptTemplate)
    for user in range(1, USERS + 1):
        users.add(id=user, username=f"user{user}", password="!", is_staff=user == 1, is_active=True, date_joined=now)
        for place in range(1, 11):
            repo = (user - 1) * 10 + place
            repos.add(
                id=repo, owner_id=user, source=f"https://github.com/acme/repo{repo}", name=f"repo{repo}", default_branch="main",
                check_command="make check", mirrored_at=now, created_at=now,
            )  # fmt: skip
            checks.add(
                id=repo, repo_id=repo, base_commit=maker.commit, command="make check", backend="local", status="passed", exit_code=0,
                created_at=now, finished_at=now,
            )  # fmt: skip
            prompts.add(id=repo, owner_id=user, name=f"prompt {place}", prompt="Fix it", created_at=now, updated_at=now)
    for table in (users, repos, checks, prompts):
        table.flush()


# --- the repository -----------------------------------------------------------------------------------------------------


def _repository(home: Path) -> tuple[str, list[bytes]]:
    """The mirror of the first repository; its commit, and patches that fit."""
    source = home / "repo"
    chance = random.Random(8)
    texts = {
        f"src/m{number:02}.py": [f"    value{line} = {chance.choice(_WORDS)}({line})" for line in range(120)] for number in range(_FILES)
    }
    git = ["git", "-C", str(source), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(source)], check=True)
    _write(source, texts)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "base"], check=True)
    mirror = settings.DATA / "mirrors" / "1.git"
    mirrors.ensure(mirror, parse_source(str(source), allow_local=True, roots=[home]), timeout=60)
    patches = []
    for _ in range(_VARIANTS):
        changed = {name: texts[name].copy() for name in chance.sample(sorted(texts), _CHANGED)}
        for lines in changed.values():
            for place in chance.sample(range(len(lines)), 3):
                lines[place] += f"  # {chance.choice(_WORDS)}"
        _write(source, texts | changed)
        patches.append(subprocess.run([*git, "diff", "--binary", "--full-index"], check=True, capture_output=True).stdout)
    return mirrors.resolve(mirror, "main"), patches


def _write(source: Path, texts: dict[str, list[str]]) -> None:
    for name, lines in texts.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("".join(f"{line}\n" for line in lines))


def _listed(content: bytes) -> list[dict[str, object]]:
    """The files of a patch as its row lists them."""
    names = [line.split(b" b/", 1)[1].decode() for line in content.splitlines() if line.startswith(b"diff --git ")]
    return [{"path": name, "old_path": None, "state": "modified", "additions": 3, "deletions": 3, "is_binary": False} for name in names]
