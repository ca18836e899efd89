"""The way to a supervisor whose socket cannot be reached from outside: started anew for each request, in the same sandbox.

    python3 -I -S supervisor.pyz relay ask STATE REQUEST [RAW]     one request of the control protocol
    python3 -I -S supervisor.pyz relay follow STATE OFFSET [SECONDS]   the journal from an offset on, as it grows
    python3 -I -S supervisor.pyz relay there STATE SECONDS         whether a supervisor listens, by the exit code; waits for it

STATE is the supervisor's folder. Whoever reads what is printed here may get it in pieces, decoded as text: so it is lines of
ASCII, each with all that is needed to notice that one is missing.

`ask`: REQUEST is base64 of the JSON, or @NAME: a file of that name in STATE holds the JSON, and is removed. RAW names a file in
STATE with the raw bytes of a `put`; it is removed too. Prints `reply`, base64 of the reply's JSON and base64 of the bytes
after it; more than 32 KiB of those are put into a file of STATE and `@NAME` is printed instead. When no supervisor answers, the
reply is {"ok": false, "error": "gone"}. The patch that a `shutdown` gives is kept in STATE too, and answers for a checkpoint
that no supervisor has any more.

`follow`: prints `data OFFSET BASE64` for what lies at an offset, and `over OFFSET` when no supervisor is there and all of it
was printed. It leaves after SECONDS (default 300), so that one whose reader is gone does not stay for ever.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import sys
import time

from . import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INLINE_MAX = 32 * 1024
_CHUNK = 48 * 1024
_POLL_S = (0.05, 0.25)
_FOLLOW_S = 300.0
_LOOK_S = 1.0
_ANSWER_S = 1800.0  # whoever asks has clocks of its own
_OLD_S = 600.0
_KEPT, _KEPT_PATCH = "kept.json", "kept.patch"
_READ = 256 * 1024
_CONTENT_MAX = 512 * 1024 * 1024  # whoever asked has to hold it in memory
_TOO_BIG = "It has {} MiB; at most {} MiB are given at once."


def main(argv: list[str]) -> None:
    what, state, *rest = argv
    if what == "ask":
        _print("reply", *_answer(state, *rest))
    elif what == "there":
        _wait(state, float(rest[0]))
    elif what == "follow":
        _follow(state, int(rest[0]), float(rest[1]) if len(rest) > 1 else _FOLLOW_S)
    else:
        raise SystemExit(f"relay: not understood: {what}")


def _print(*words: str) -> None:
    data = (" ".join(words) + "\n").encode("ascii")
    while data:
        data = data[os.write(1, data) :]


# One request


def _answer(state: str, request: str, raw: str = "") -> tuple[str, str]:
    """The reply and its bytes, as they are printed."""
    _forget_old(state)
    message = json.loads(_take(os.path.join(state, request[1:])) if request.startswith("@") else base64.b64decode(request))
    reply, name = _ask(state, message, _take(os.path.join(state, raw)) if raw else b"")
    if message["do"] == "shutdown" and "sha256" in reply:
        _keep(state, reply, name)
    elif message["do"] == "patch" and message.get("kind") == "checkpoint" and not reply["ok"] and reply["error"] in ("missing", "gone"):
        reply, name = _kept(state, message["turn"]) or (reply, name)
    return _encoded(json.dumps(reply).encode("ascii")), _shown(state, name)


def _ask(state: str, message: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], str]:
    """The reply, and the name of a file in STATE with the bytes after it; "" when there are none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_ANSWER_S)
            sock.connect(os.path.join(state, "control.sock"))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may refuse before it has read all, and then says why
                frames.send(sock, message, raw)
            reply = frames.receive(sock)
            size = frames.raw_size(reply)
            if size > _CONTENT_MAX:
                return {"ok": False, "error": "failed", "message": _TOO_BIG.format(size >> 20, _CONTENT_MAX >> 20)}, ""
            return reply, _put_aside(state, sock, size) if size else ""
    except (OSError, EOFError, frames.FrameError) as error:
        return {"ok": False, "error": "gone", "message": f"The supervisor does not answer ({error})."}, ""


def _take(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read()
    os.unlink(path)
    return content


def _put_aside(state: str, sock: socket.socket, size: int) -> str:
    name = f"out-{os.getpid()}-{time.monotonic_ns()}"
    with open(os.path.join(state, name), "wb") as file:
        while size:
            chunk = sock.recv(min(size, _READ))
            if not chunk:
                raise EOFError("it left in the middle of its answer")
            file.write(chunk)
            size -= len(chunk)
    return name


def _shown(state: str, name: str) -> str:
    """Few bytes themselves, many by the name of their file."""
    path = os.path.join(state, name)
    if not name:
        return "-"
    return "@" + name if name == _KEPT_PATCH or os.path.getsize(path) > _INLINE_MAX else _encoded(_take(path))


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii") or "-"


def _forget_old(state: str) -> None:
    """What was put aside and never fetched, or brought here and never asked for."""
    for entry in os.scandir(state):
        if entry.name.startswith(("out-", "in-")) and time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_S:
            os.unlink(entry.path)


def _keep(state: str, reply: dict[str, Any], name: str) -> None:
    """The patch first, then what is said of it: so there is never a word about a patch that is not there."""
    patch = os.path.join(state, _KEPT_PATCH)
    if name:
        shutil.copyfile(os.path.join(state, name), patch + ".new")
    else:
        open(patch + ".new", "wb").close()
    os.replace(patch + ".new", patch)
    with open(os.path.join(state, _KEPT + ".new"), "w", encoding="ascii") as file:
        json.dump(reply, file)
    os.replace(os.path.join(state, _KEPT + ".new"), os.path.join(state, _KEPT))


def _kept(state: str, turn: int) -> tuple[dict[str, Any], str] | None:
    try:
        with open(os.path.join(state, _KEPT), encoding="ascii") as file:
            reply = json.load(file)
        size = os.path.getsize(os.path.join(state, _KEPT_PATCH))
    except OSError:
        return None
    return (reply, _KEPT_PATCH if size else "") if reply["turn"] == turn and size == frames.raw_size(reply) else None


# The journal


def _follow(state: str, offset: int, seconds: float) -> None:
    until, pause, looked, is_over = time.monotonic() + seconds, _POLL_S[0], 0.0, False
    fd = os.open(os.path.join(state, "journal.jsonl"), os.O_RDONLY | os.O_CREAT, 0o600)
    while time.monotonic() < until:
        chunk = os.pread(fd, _CHUNK, offset)
        if chunk:
            _print("data", str(offset), _encoded(chunk))
            offset += len(chunk)
            pause = _POLL_S[0]
        elif is_over:
            _print("over", str(offset))
            return
        elif time.monotonic() - looked > _LOOK_S:
            looked = time.monotonic()
            is_over = not _is_there(state)  # then read once more: it may have written before it left
        else:
            time.sleep(pause)
            pause = min(2 * pause, _POLL_S[1])


def _wait(state: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not _is_there(state):
        if time.monotonic() >= until:
            raise SystemExit(1)
        time.sleep(_POLL_S[0])


def _is_there(state: str) -> bool:
    """Whether a supervisor listens. Not asked of the journal's lock: taking it, if only for a moment, could keep one from starting."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(os.path.join(state, "control.sock"))
        except OSError:
            return False
    return True


def run() -> None:
    try:
        main(sys.argv[2:])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"relay: {error}") from error
