"""git as this package runs it: an environment wholly of our own, so that nothing an agent wrote has a say.

No configuration but the private repository's is read, no hook, filter or monitor is started, no prompt is shown.
"""

from __future__ import annotations

import os
import select
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Optional

GIT = "/usr/bin/git"
PATIENCE_S = 900.0  # one git command; only a hostile workspace (a pipe swapped in for a file) can make it wait at all

_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tbare = false
\tfileMode = true
\tsymlinks = true
\tignoreCase = false
\tprecomposeUnicode = false
\ttrustctime = true
\tcheckStat = default
\tfsmonitor = false
\tuntrackedCache = false
\tsplitIndex = false
\tautocrlf = false
\tsafecrlf = false
\texcludesFile = /dev/null
\tattributesFile = /dev/null
\thooksPath = /dev/null
\tlogAllRefUpdates = false
\tfsync = none
\tfsyncObjectFiles = false
[gc]
\tauto = 0
"""
_SHA256 = "[extensions]\n\tobjectFormat = sha256\n"
SHA256_DIGITS = 64


class GitError(RuntimeError):
    """git refused; `words` is what it said, without its "fatal:"."""

    def __init__(self, what: str, words: str) -> None:
        super().__init__(f"git {what} failed: {words}")
        self.words = words


def words(stderr: bytes, code: int) -> str:
    """The line of git's complaint that says most, at most 200 characters."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    plain = [line.partition(": ")[2] for line in lines if line.startswith(("fatal: ", "error: "))]
    telling = [line for line in plain if not line.startswith("Unable to process path")]
    fallback = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return ((telling or plain or lines or [fallback])[-1])[:200]


def environment(git_dir: str, work_tree: str, home: str) -> dict[str, str]:
    """Every variable git gets; nothing is inherited. `home` is an empty folder, so `~/.config/git` says nothing."""
    return {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C",
        "HOME": home,
        "XDG_CONFIG_HOME": home,
        "GIT_DIR": git_dir,
        "GIT_WORK_TREE": work_tree,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_PAGER": "cat",
    }


def make_git_dir(path: str, base: str) -> None:
    """A private repository without objects, for the hash function that `base` (a full commit id) shows."""
    os.makedirs(os.path.join(path, "objects"), exist_ok=True)
    os.makedirs(os.path.join(path, "refs"), exist_ok=True)
    is_sha256 = len(base) == SHA256_DIGITS
    with open(os.path.join(path, "config"), "w", encoding="utf-8") as file:
        file.write(_CONFIG.format(version=int(is_sha256)) + (_SHA256 if is_sha256 else ""))
    with open(os.path.join(path, "HEAD"), "w", encoding="utf-8") as file:
        file.write("ref: refs/heads/none\n")


class Git:
    """Commands with one environment, in one folder. Paths travel on standard input, never as arguments."""

    def __init__(self, env: Mapping[str, str], cwd: str) -> None:
        self.env = dict(env)
        self.cwd = cwd

    def with_env(self, cwd: Optional[str] = None, **changes: str) -> Git:
        return Git({**self.env, **changes}, cwd or self.cwd)

    def attempt(self, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run to the end, whatever the exit code; GitError only when it took longer than PATIENCE_S."""
        try:
            return subprocess.run(  # noqa: PLW1510 - callers look at the code
                [GIT, *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env, cwd=self.cwd, timeout=PATIENCE_S
            )
        except subprocess.TimeoutExpired as error:
            raise GitError(args[0], f"no end after {PATIENCE_S:.0f} seconds") from error

    def run(self, *args: str, stdin: bytes = b"", codes: Sequence[int] = (0,)) -> bytes:
        """Standard output; GitError when the exit code is none of `codes`."""
        done = self.attempt(*args, stdin=stdin)
        if done.returncode not in codes:
            raise GitError(args[0], words(done.stderr, done.returncode))
        return done.stdout

    def start(self, *args: str, is_fed: bool = False) -> subprocess.Popen[bytes]:
        """A running command whose output is a pipe; its input too if `is_fed`. Its complaints are not kept."""
        return subprocess.Popen(
            [GIT, *args],
            stdin=subprocess.PIPE if is_fed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.env,
            cwd=self.cwd,
            bufsize=0,
        )


class IgnoreRules:
    """Which paths the work tree's `.gitignore` files ignore, nested repositories' own included.

    One process answers all questions; it starts with the first. Close it (a context manager).
    `refused` collects the paths git would not answer for; they count as ignored.
    """

    _FIELDS = 4  # of each answer: file, line, pattern, path

    def __init__(self, git: Git) -> None:
        self._git = git
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.refused: list[bytes] = []

    def __enter__(self) -> IgnoreRules:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop()

    def ask(self, paths: Sequence[bytes]) -> list[bool]:
        """For each path (a file or folder that exists) whether it is ignored."""
        answers: list[bool] = []
        while len(answers) < len(paths):
            answers += self._ask(paths[len(answers) :])
            if len(answers) < len(paths):
                self.refused.append(paths[len(answers)])
                answers.append(True)
                self._stop()
        return answers

    def _ask(self, paths: Sequence[bytes]) -> list[bool]:
        """The answers up to the first path git dies of. Both pipes may be as small as a page, so neither side may wait."""
        if self._process is None:
            self._process = self._git.start("check-ignore", "-z", "--verbose", "--non-matching", "--no-index", "--stdin", is_fed=True)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout.fileno(), process.stdin.fileno()
        os.set_blocking(sink, False)
        poll = select.poll()
        poll.register(source, select.POLLIN)
        poll.register(sink, select.POLLOUT)
        unsent = memoryview(b"".join(b"./" + path + b"\0" for path in paths))  # "./", as a leading ":" is magic
        answer = bytearray()
        missing = self._FIELDS * len(paths)
        while missing:
            ready = poll.poll(PATIENCE_S * 1000)
            if not ready:
                self._stop()
                raise GitError("check-ignore", f"no answer after {PATIENCE_S:.0f} seconds")
            for fd, _events in ready:
                if fd == sink:
                    try:
                        unsent = unsent[os.write(sink, unsent[:65536]) :]
                    except BrokenPipeError:
                        unsent = unsent[:0]
                    if not unsent:
                        poll.unregister(sink)
                else:
                    chunk = os.read(source, 65536)
                    missing = missing - chunk.count(b"\0") if chunk else 0
                    answer += chunk
        patterns = bytes(answer).split(b"\0")[:-1][2 :: self._FIELDS]
        complete = answer.count(b"\0") // self._FIELDS
        return [bool(pattern) and not pattern.startswith(b"!") for pattern in patterns[:complete]]

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        process.wait()
