"""How git is called on the host: with an environment and a configuration of our own, a deadline, and no way to ask.

Nothing of the caller's environment, home, system configuration, hooks or credential helpers takes part; a proxy and
certificate authorities do, since only the host's administrator can set them.
"""

from __future__ import annotations

import functools
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import RepoUnavailable
from tasks.git.sources import Source

MAX_OUTPUT = 256 * 1024 * 1024
MAX_STDERR = 64 * 1024

# The one place where a child is given something of our environment.
_PASSED_ON = (
    *("PATH", "TMPDIR", "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"),
)
_ENVIRONMENT = {
    "HOME": "/nonexistent",  # set, or curl looks for a .netrc in the account's home
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "/bin/false",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_LAZY_FETCH": "1",  # else a partial clone's configuration says what upload-pack runs
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_PAGER": "cat",
}
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "fetch.recurseSubmodules": "false",
    "submodule.recurse": "false",
    "transfer.bundleURI": "false",
    "http.followRedirects": "false",  # a redirect would lead past the check of the host
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "advice.detachedHead": "false",
    "init.defaultBranch": "main",
}

# What git says (as a regular expression) and what we say; `{where}` is the host or path. The first that fits counts.
_SENTENCES = {
    r"could not read Username|Authentication failed|returned error: 401": (
        "{where} asks for a sign-in, or has no such repository. Check the address; for a private repository, "
        "connect your account's credentials first."
    ),
    r"returned error: 403": "{where} refuses access to this repository. Check that your account may read it.",
    r"returned error: 404|repository '.*' not found": "{where} has no such repository. Check the address.",
    r"returned error: 429": "{where} says that too many requests were made. Try again in a few minutes.",
    r"returned error: 3\d\d": "{where} redirects this address to another one. Use the address your browser ends up at.",
    r"returned error: 5\d\d": "{where} answers with an error of its own. Try again later.",
    r"Could not resolve (host|proxy)": "{where} cannot be found. Check the address, or try again later.",
    r"SSL|certificate|TLS": (
        "The secure connection to {where} failed: its certificate is not trusted here. "
        "An operator can name the right authorities with SSL_CERT_FILE."
    ),
    r"Operation too slow": "{where} stopped sending. Try again.",
    r"Failed to connect|Connection (refused|timed out|reset)|Couldn't connect|Empty reply": (
        "{where} cannot be reached. Check the address, or try again later."
    ),
    r"No space left on device|Disk quota exceeded": "The disk of this server is full. An operator has to make room.",
    r"dubious ownership|Permission denied": "{where} cannot be read by the account this server runs as. Check its permissions.",
    r"does not appear to be a git repository|repository '.*' does not exist": "{where} is no git repository any more. Check the address.",
    r"shallow": "{where} holds only part of the history (a shallow clone). Fetch the rest there first.",
    r"early EOF|unexpected disconnect|hung up|RPC failed": "The connection to {where} broke in the middle. Try again.",
}

# What git says when it stumbles over the files of the repository that it is in.
_DAMAGE = re.compile(
    r"bad object|corrupt|object file .* is empty|(pack|index )file .* (truncated|too s\w+|cannot be mapped|invalid|does not match)"
    r"|(unable to|could not|cannot|failed to) (read|parse|unpack|map|open pack)|inflate|necessary objects|not a git repository: "
    r"|bad config|does not point to a valid|invalid object|unexpected line in|broken ref|missing (blob|tree|commit)",
    re.IGNORECASE,
)


class GitFailed(RepoUnavailable):
    """git ended badly. `message` is a sentence, `stderr` what git itself said, credentials and control characters out."""

    def __init__(self, stderr: str, where: str) -> None:
        super().__init__(explain(stderr, where))
        self.stderr = stderr

    @property
    def tells_of_damage(self) -> bool:
        """Whether the repository's own files are the reason. What a server says ("remote: …") is no word on ours."""
        return bool(_DAMAGE.search(re.sub(r"(?m)^remote:.*$", "", self.stderr)))


class GitTimedOut(GitFailed):
    """git was killed, with all that it had started, because its time was over."""

    def __init__(self, stderr: str, where: str) -> None:
        super().__init__(stderr, where)
        self.message = f"{where} took too long and was given up. Try again, or ask an operator to allow more time."
        self.args = (self.message,)


def explain(stderr: str, where: str) -> str:
    """A sentence for what git printed. What a server says itself ("remote: …") is not taken for git's word."""
    own = "\n".join(line for line in stderr.splitlines() if not line.startswith("remote:"))
    for pattern, sentence in _SENTENCES.items():
        if re.search(pattern, own, re.IGNORECASE):
            return sentence.format(where=where)
    last = next((line for line in reversed(own.splitlines()) if line.startswith(("fatal:", "error:"))), "it gave no reason")
    return f"git could not read {where}: {last.removeprefix('fatal: ')[:300]}"


def clean(raw: bytes, secrets: Sequence[str] = ()) -> str:
    """git's standard error as text that is fit to show and keep, without `secrets`."""
    text = raw.decode(errors="replace").replace("\r", "\n")
    for secret in secrets:
        text = text.replace(secret, "***")
    text = re.sub(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@]+@", r"\1***@", text)
    return "".join(c for c in text if c == "\n" or c.isprintable())


@functools.cache
def version() -> tuple[int, int]:
    found = re.search(rb"(\d+)\.(\d+)", git(["version"], where="git", timeout=10))
    assert found is not None
    return int(found[1]), int(found[2])


def can_pin_hosts() -> bool:
    """Whether git can be held to the address that was checked (`http.curloptResolve`, git 2.37). Without it a name
    that changes its address between check and connection is followed."""
    return version() >= (2, 37)


@contextmanager
def access(source: Source, addresses: Sequence[str] = ()) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The configuration and environment with which git may contact this source, and nothing else."""
    if not source.is_local:
        config = {}
        shown = [f"[{a}]" if ":" in a else a for a in addresses]
        if source.host not in addresses and can_pin_hosts():
            config["http.curloptResolve"] = f"{source.host}:{source.port}:{','.join(shown)}"
        yield config, {"GIT_ALLOW_PROTOCOL": source.url.partition(":")[0]}
        return
    # git reads safe.directory from files only, so that a repository's neighbour cannot pass it on a command line.
    with tempfile.NamedTemporaryFile("w", prefix="asynccode-git-", errors="surrogateescape") as file:
        quoted = (folder.replace("\\", "\\\\").replace('"', '\\"') for folder in source.folders)
        file.write("[safe]\n" + "".join(f'directory = "{folder}"\n' for folder in quoted))
        file.flush()
        yield {}, {"GIT_ALLOW_PROTOCOL": "file", "GIT_CONFIG_GLOBAL": file.name}


def git(
    args: Sequence[str],
    *,
    timeout: float,
    where: str = "The repository",
    git_dir: Path | None = None,
    cwd: Path = Path("/"),
    config: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes = b"",
    on_stderr: Callable[[bytes], None] | None = None,
    held: Sequence[int] = (),
    secrets: Sequence[str] = (),
    good: Collection[int] = (0,),
) -> bytes:
    """Run git; its standard output. GitFailed when it ends badly, GitTimedOut after `timeout` seconds.

    The whole process group is killed on a timeout and on any exception, `on_stderr`'s own too. `git_dir` names a
    repository of ours, so that none is searched for. `held` are descriptors that git and its children keep open (a
    lock stays taken until the last of them is gone, should we be killed). `secrets` are in `env` and must not be in errors;
    `good` are the exit codes that are no failure.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _ENVIRONMENT
    if git_dir is not None:
        environment["GIT_DIR"] = str(git_dir)
    settings = [part for name, value in {**_CONFIG, **(config or {})}.items() for part in ("-c", f"{name}={value}")]
    with tempfile.TemporaryFile() as stdin:
        stdin.write(input)
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                ["git", *settings, *args],
                cwd=cwd,
                env={**environment, **(env or {})},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=held,
                umask=0o077,  # a mirror that others may read says so in its configuration
            )
        except FileNotFoundError:
            raise RepoUnavailable("git is not installed on this server. An operator has to install it.") from None
    finished = False
    try:
        stdout, stderr, in_time = _read(process, timeout, on_stderr)
        if not in_time:
            raise GitTimedOut(clean(stderr, secrets), where)
        finished = True
    finally:
        if not finished:
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    if process.returncode not in good:
        raise GitFailed(clean(stderr, secrets), where)
    return stdout


def _read(process: subprocess.Popen[bytes], timeout: float, on_stderr: Callable[[bytes], None] | None) -> tuple[bytes, bytes, bool]:
    """Both outputs until they end, and whether that was in time. Of standard error only the end is kept."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + timeout
    stdout, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                return bytes(stdout), bytes(stderr), False
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    stdout += chunk
                    if len(stdout) > MAX_OUTPUT:
                        raise RepoUnavailable("The repository answers with more than this server is ready to read.")
                else:
                    stderr += chunk
                    del stderr[:-MAX_STDERR]
                    if on_stderr is not None:
                        on_stderr(chunk)
    return bytes(stdout), bytes(stderr), True
