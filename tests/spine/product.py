"""The real product, started as a user starts it, and what tests may do to it: ask, kill, freeze, lock, look for leftovers."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import redis
import rq
from psycopg.rows import dict_row

SOURCE = Path(__file__).resolve().parents[2]
HOST = "spine"
BRISK = {"CHECKPOINT_S": "1", "AGENT_SILENCE_S": "3"}  # the environment of a product whose clocks tick faster
FINAL = ("succeeded", "failed", "errored", "canceled", "interrupted")
GIT = ["git", "-c", "user.name=alice", "-c", "user.email=alice@example.org", "-c", "init.defaultBranch=main", "-c", "safe.directory=*"]
T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, seconds: float = 30.0, pause: float = 0.02) -> T:
    """The first true value of `condition`; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause)
    return value


class Witness:
    """A web server outside all our code that counts what scripts tell it: how often each one really started."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._held: dict[str, threading.Event] = {}
        witness = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                witness.seen[self.path] += 1
                if (held := witness._held.get(self.path)) is not None:
                    held.wait()
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def call(self, name: str) -> str:
        """A line of bash that tells the witness `name`, through the sandbox's gateway."""
        request = f"GET http://127.0.0.1:{self.port}/{name} HTTP/1.1\\r\\nHost: 127.0.0.1:{self.port}\\r\\nConnection: close\\r\\n\\r\\n"
        return f"exec 9<>/dev/tcp/127.0.0.1/3128; printf '{request}' >&9; cat <&9 >/dev/null; exec 9>&-\n"

    def count(self, name: str) -> int:
        return self.seen[f"/{name}"]

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Scripts that tell `name` get no answer before the block's end."""
        over = self._held[f"/{name}"] = threading.Event()
        try:
            yield
        finally:
            over.set()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Product:
    """One `manage.py up` on a throwaway data folder. `source`: the checkout it is started from."""

    def __init__(self, *, source: Path = SOURCE, **environment: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="asynccode-spine-", dir="/tmp"))
        self.folder.chmod(0o711)  # the accounts of servers and sandboxes pass through
        self.data, self.repo, self.source = self.folder / "data", self.folder / "repo", source
        self.witness = Witness()
        self.environment = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL", "PORT")} | {
            "ASYNCCODE_DATA": str(self.data),
            "ASYNCCODE_HOST": HOST,
            "SECRET_KEY": secrets.token_hex(16),
            "ENCRYPTION_KEYS": "c3BpbmVzcGluZXNwaW5lc3BpbmVzcGluZXNwaW5lMDA=",
            "LOCAL_REPO_ROOTS": str(self.folder),
            "ALLOW_PRIVATE_HOSTS": f"127.0.0.1:{self.witness.port}",
            "ALLOW_TEST_USERS": "local",
            "START_LEASE_S": "10",  # longer than a start takes on a busy machine: after three of them a run is given up
            "WORKERS": "6",  # some of them are going to freeze
            "DJANGO_SETTINGS_MODULE": "asynccode.settings",
            **environment,
        }
        self.log = self.folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self._make_repo()

    # --- its life -------------------------------------------------------------------------------------------------------

    def start(self, *arguments: str) -> None:
        """Start it and wait for its greeting."""
        with self.log.open("ab") as log:
            begin = log.tell()
            argv = [sys.executable, str(self.source / "manage.py"), "up", "--port", "0", *arguments]
            self.process = subprocess.Popen(argv, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.source)

        def greeting() -> str:
            assert self.process is not None
            assert self.process.poll() is None, f"up ended:\n{self.tail()}"
            _, _, rest = self.log.read_bytes()[begin:].decode(errors="replace").partition("asynccode is running at ")
            return rest.split("\n")[0] if "\n" in rest else ""

        self.url = wait_for(greeting, "the greeting", 90)
        if not self.rows("SELECT 1 FROM tasks_repo"):
            self.manage("submit", "--repo", str(self.repo), "--agent", "shell", "--prompt", "true", "--wait")
            hosts = json.dumps([f"127.0.0.1:{self.witness.port}"])
            # Nothing is built beside the runs of a test that does not ask for it.
            self.do("UPDATE tasks_repo SET network_hosts = %s, prepares = false", hosts)

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def close(self) -> None:
        """End all that runs for this data folder, be it frozen or gone wild, and delete it."""
        try:
            if self.is_up:
                for pid in self.pids():
                    send([pid], signal.SIGCONT)
                self.signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.wait(20)
        finally:
            self.kill_everything()
            self.witness.close()
            for folder in self.cgroups():
                with contextlib.suppress(OSError):  # a group below it, or gone by now
                    folder.rmdir()
            shutil.rmtree(self.folder)

    def kill_everything(self) -> None:
        """kill -9 of every process, as a power cut does: none of them has time to see that another is gone."""

        def are_gone() -> bool:
            if self.process is not None:
                self.process.poll()
            pids = self.pids()
            send(pids, signal.SIGSTOP)
            send(pids, signal.SIGKILL)
            return not pids

        wait_for(are_gone, "the end of all processes", 30, 0.1)

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    # --- asking it ------------------------------------------------------------------------------------------------------

    def manage(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(self.source / "manage.py"), *arguments]
        done = subprocess.run(argv, env=self.environment | environment, capture_output=True, text=True, timeout=120, cwd=self.source)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}\n{self.tail()}"
        return done

    def submit(self, script: str, *, attempts: int = 1, repo: Path | None = None) -> list[int]:
        """Queue runs of the shell agent; their ids."""
        words = ["submit", "--repo", str(repo or self.repo), "--agent", "shell", "--attempts", str(attempts), "--prompt", script, "--json"]
        return [run["id"] for run in json.loads(self.manage(*words).stdout)["runs"]]

    @contextlib.contextmanager
    def connect(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        host = str(self.data / "sockets" / "postgres")
        with psycopg.connect(host=host, user="asynccode", dbname="asynccode", autocommit=True, row_factory=dict_row) as connection:
            yield connection

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with self.connect() as connection:
            return connection.execute(statement, values).fetchall()

    def do(self, statement: str, *values: Any) -> None:
        with self.connect() as connection:
            connection.execute(statement, values)

    def run(self, run_id: int) -> dict[str, Any]:
        return self.rows("SELECT * FROM tasks_run WHERE id = %s", run_id)[0]

    def until(self, run_id: int, *statuses: str, seconds: float = 60.0) -> dict[str, Any]:
        """The run, once it has one of these statuses."""

        def there() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["status"] in statuses else None

        try:
            return wait_for(there, f"run {run_id} {' or '.join(statuses)}", seconds, 0.05)
        except AssertionError as failure:
            failure.add_note(f"{self.run(run_id)}\n{self.sandboxes(run_id)}\n{self.tail()}")
            raise

    def ended(self, run_id: int, seconds: float = 60.0) -> dict[str, Any]:
        return self.until(run_id, *FINAL, seconds=seconds)

    def settled(self, run_id: int, seconds: float = 60.0) -> dict[str, Any]:
        """The run, once it is over; reconcile comes every second instead of every 15."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.enqueue("reconcile_all")
            with contextlib.suppress(AssertionError):
                return self.until(run_id, *FINAL, seconds=1.0)
        return self.ended(run_id, 0.0)

    def sandboxes(self, run_id: int) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM tasks_sandbox WHERE run_id = %s ORDER BY generation", run_id)

    def events(self, run_id: int) -> list[dict[str, Any]]:
        return self.rows("SELECT seq, kind, data, turn_id FROM tasks_event WHERE run_id = %s ORDER BY seq", run_id)

    def text(self, run_id: int, stream: str = "stdout", *, step: str | None = None) -> str:
        """All that a step (None: the agent) wrote to a stream, by the run's events."""
        logs = (event["data"] for event in self.events(run_id) if event["kind"] == "log")
        return "".join(data["text"] for data in logs if data["stream"] == stream and data.get("step") == step)

    def patch(self, run_id: int) -> dict[str, Any] | None:
        """The newest patch of a run: kind, content, secrets_found, …"""
        found = self.rows(
            "SELECT p.*, t.number FROM tasks_patch p JOIN tasks_turn t ON t.id = p.turn_id WHERE p.run_id = %s"
            " ORDER BY t.number DESC, p.kind DESC LIMIT 1",
            run_id,
        )
        return found[0] if found else None

    def files(self, run_id: int) -> dict[str, str]:
        """The files of the base commit with the run's patch applied."""
        patch = self.patch(run_id)
        assert patch is not None, f"run {run_id} has no patch"
        with tempfile.TemporaryDirectory(prefix="asynccode-spine-") as folder:
            subprocess.run([*GIT, "clone", "-q", str(self.repo), folder], check=True)
            subprocess.run([*GIT, "apply", "--index", "--allow-empty"], cwd=folder, input=bytes(patch["content"]), check=True)
            names = subprocess.run([*GIT, "ls-files", "-z"], cwd=folder, capture_output=True, text=True, check=True).stdout
            return {name: (Path(folder) / name).read_text() for name in names.split("\0") if name}

    def faults(self, run_id: int) -> list[str]:
        """What is wrong with the events of a run whose script kept its own log as `own.log`."""
        seqs = [event["seq"] for event in self.events(run_id)]
        found = [] if seqs == list(range(1, len(seqs) + 1)) else [f"seq is not 1 to n: {seqs[:20]}…"]
        said, own = self.text(run_id).splitlines(), self.files(run_id).get("own.log", "").splitlines()
        if said != own:
            differ = next((n for n, (a, b) in enumerate(zip(said, own, strict=False)) if a != b), min(len(said), len(own)))
            found.append(f"{len(said)} lines stored, {len(own)} written, the first that differs: {differ}")
        return found

    # --- jobs -----------------------------------------------------------------------------------------------------------

    @property
    def valkey(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.data / "sockets" / "valkey" / "valkey.sock"))

    def enqueue(self, job: str, *arguments: Any, queue: str = f"host-{HOST}") -> None:
        """What reconcile or cron would do a few seconds later."""
        with contextlib.closing(self.valkey) as valkey:
            rq.Queue(queue, connection=valkey).enqueue(f"tasks.running.jobs.{job}", *arguments)

    def worker_at(self, call: str) -> int | None:
        """The worker that does the job `call` now, such as "start_turn(3, 1)"."""
        with contextlib.closing(self.valkey) as valkey:
            for key in valkey.keys("rq:job:*"):
                if valkey.type(key) == b"hash":
                    status, said, name = valkey.hmget(key, "status", "description", "worker_name")
                    if status == b"started" and call in said.decode() and (pid := valkey.hget(b"rq:worker:" + name, "pid")):
                        return int(pid)
        return None

    def renew_workers(self) -> None:
        """Kill the workers and wait for new ones: those whose Valkey was emptied are not listed there any more."""
        old = self.workers()
        send(old, signal.SIGKILL)

        def are_listed() -> bool:
            with contextlib.closing(self.valkey) as valkey:
                listed = {valkey.hget(key, "pid") for key in valkey.smembers("rq:workers")}
            new = self.workers()
            return len(new) == len(old) and not set(new) & set(old) and listed >= {str(pid).encode() for pid in new}

        wait_for(are_listed, "new workers", 60, 0.1)

    def is_idle(self, worker: int) -> bool:
        with contextlib.closing(self.valkey) as valkey:
            told = (valkey.hmget(key, "pid", "state") for key in valkey.smembers("rq:workers"))
            return [str(worker).encode(), b"idle"] in list(told)

    def blocked(self, words: str) -> bool:
        """Whether a statement with these words waits for a lock."""
        found = self.rows(
            "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s AND pid <> pg_backend_pid()", f"%{words}%"
        )
        return bool(found)

    # --- its processes --------------------------------------------------------------------------------------------------

    def service(self, word: str) -> int:
        """The process of the service whose command has this word; waits for one that is being restarted."""
        assert self.process is not None
        up = self.process.pid
        return wait_for(lambda: next((p for p in children(up) if f" {word}" in command(p)), 0), f"the service {word}", 60)

    def workers(self) -> list[int]:
        return children(self.service(f"work host-{HOST}"))

    def pids(self) -> list[int]:
        return belonging_to(self.folder)

    def inhabitants(self, ref: str = "") -> list[int]:
        """Processes inside the sandbox `ref`, or inside any."""
        mark = f"{self.folder.name}/data/sandboxes/{ref}{'/' if ref else ''}".encode()
        found = []
        for pid in processes():
            with contextlib.suppress(OSError):
                if mark in (Path("/proc") / str(pid) / "mountinfo").read_bytes():
                    found.append(pid)
        return found

    def folders(self) -> set[str]:
        """The sandboxes that exist on disk."""
        return {entry.name for entry in (self.data / "sandboxes").iterdir() if not entry.name.startswith(".")}

    def cgroups(self) -> list[Path]:
        try:
            return [group for parent in Path("/sys/fs/cgroup").glob("**/asynccode") for group in parent.glob(f"{self.installation}.*")]
        except FileNotFoundError:  # one went away while we looked
            return self.cgroups()

    @property
    def installation(self) -> str:
        return hashlib.sha256(b"installation:" + self.environment["SECRET_KEY"].encode()).hexdigest()[:10]

    def ref(self, run_id: int, generation: int = 1) -> str:
        return f"{self.installation}.{run_id}.{generation}"

    def journal(self, run_id: int, generation: int = 1) -> list[dict[str, Any]]:
        """The records of a generation's sandbox, as far as it was written; empty when there is none."""
        path = self.data / "sandboxes" / self.ref(run_id, generation) / "state" / "journal.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def leftovers(self) -> list[str]:
        """What should not be there while no run is active: awake sandboxes, their groups, folders that no row wants."""
        wanted = {row["ref"] for row in self.rows("SELECT ref FROM tasks_sandbox WHERE status NOT IN ('lost', 'destroyed')")}
        return [
            *(f"process {pid}: {command(pid)}" for pid in self.inhabitants()),
            *(f"group {folder}" for folder in self.cgroups()),
            *(f"folder {name}" for name in self.folders() - wanted),
            *(f"moving {entry.name}" for entry in (self.data / "sandboxes" / ".moving").glob("*")),
        ]

    def is_clean(self, seconds: float = 30.0) -> None:
        """Wait for nothing to be left behind, with the help that reconcile and the reaper are at every minute."""
        try:
            for _ in range(int(seconds)):
                if not self.leftovers():
                    return
                self.enqueue("reconcile_all")
                self.enqueue("reap")
                with contextlib.suppress(AssertionError):
                    wait_for(lambda: not self.leftovers(), "clean", 1.0, 0.1)
        finally:
            left = self.leftovers()
        assert not left, f"{left}\n{self.rows('SELECT run_id, generation, status, ref FROM tasks_sandbox')}\n{self.tail()}"

    def _make_repo(self) -> None:
        self.repo.mkdir()
        for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "Begin"]):
            subprocess.run([*GIT, *words], cwd=self.repo, check=True)


def processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def belonging_to(folder: Path) -> list[int]:
    """Every process of the installation whose data is FOLDER/data: services, servers, sandboxes, started by whomever."""
    marks = (f"ASYNCCODE_DATA={folder}/data\0".encode(), f"{folder}/data/".encode(), f"{folder.name}/data/sandboxes/".encode())
    found = []
    for pid in processes():
        with contextlib.suppress(OSError):
            proc = Path("/proc") / str(pid)
            texts = ((proc / "environ").read_bytes(), os.readlink(proc / "cwd").encode() + b"/", (proc / "mountinfo").read_bytes())
            if any(mark in text for mark, text in zip(marks, texts, strict=True)) and pid != os.getpid():
                found.append(pid)
    return found


def children(pid: int) -> list[int]:
    found = []
    for child in processes():
        with contextlib.suppress(OSError):
            state, parent, *_ = (Path("/proc") / str(child) / "stat").read_text().rpartition(")")[2].split()
            if int(parent) == pid and state != "Z":
                found.append(child)
    return found


def command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def wake(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def chatty(rounds: int, lines: int, pause: float = 0.05, *, until: str = "false") -> str:
    """A script that says `rounds` × `lines` lines, or as many as there are `until` a command succeeds, and keeps its own log of
    them in the workspace."""
    return f"""
for ((i = 0; i < {rounds}; i++)); do
  for ((j = 0; j < {lines}; j++)); do
    line="round $i line $j $RANDOM ä✓"
    echo "$line" >> own.log
    echo "$line"
  done
  {until} && break
  sleep {pause}
done
"""
