"""What a sandbox is rid of before it is kept as a prepared environment; run inside as a program of its own (`argv`).

    python3 -I -S -c SOURCE WORKSPACE HOME

Files under version control go, and the repository with them: every checkout brings its own. So do our own files in
the home, and a folder `artifacts` that is not the repository's: what later runs leave there is to be theirs. Whatever
its owner could not read is opened, so that it can be copied. Fails with a sentence.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = ".asynccode"
_ARTIFACTS = b"artifacts"
_SUBMODULE = b"160000"


def argv(workspace: str, home: str, python: str = "python3") -> list[str]:
    """The command that does it, for `Sandbox.run`."""
    with open(__file__, encoding="utf-8") as file:
        return [python, "-I", "-S", "-c", file.read(), workspace, home]


def strip(workspace: str, home: str) -> None:
    """Where there is no repository nothing is under version control. SystemExit with a sentence when there is a broken one."""
    for place in (workspace, home):
        _open_up(os.fsencode(place))
    git_dir = os.path.join(workspace, ".git")
    tracked = list(_tracked(git_dir, workspace)) if os.path.lexists(git_dir) else []
    if tracked:
        _remove_tracked(os.fsencode(workspace), tracked)
    _delete(git_dir)
    if not any(path == _ARTIFACTS or path.startswith(_ARTIFACTS + b"/") for _, path in tracked):
        _delete(os.path.join(workspace, os.fsdecode(_ARTIFACTS)))
    _delete(os.path.join(home, _OURS))


def _tracked(git_dir: str, workspace: str) -> Iterator[tuple[bytes, bytes]]:
    """Mode and path of all that the current commit holds. The index would not do: what was only added to it is no commit's."""
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_DIR": git_dir,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    listing = ["git", "ls-tree", "-r", "-z", "--full-tree", "HEAD"]
    done = subprocess.run(listing, cwd=workspace, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise SystemExit(f"The repository in the workspace cannot be read any more, so nobody knows which files are its own: {said}")
    for line in done.stdout.split(b"\0")[:-1]:
        yield line.split(b" ", 1)[0], line.partition(b"\t")[2]


def _remove_tracked(workspace: bytes, entries: list[tuple[bytes, bytes]]) -> None:
    """Files and links, and the folders that are empty then. Of submodules only what leads to the repository."""
    folders: dict[bytes, bool] = {b"": True}
    for mode, path in entries:
        path = os.path.join(path, b".git") if mode == _SUBMODULE else path
        if _is_folder(workspace, os.path.dirname(path), folders):
            full = os.path.join(workspace, path)
            if os.path.lexists(full) and not _is_real_folder(full):
                os.unlink(full)
    for folder in sorted((folder for folder, is_one in folders.items() if folder and is_one), key=len, reverse=True):
        if not os.listdir(os.path.join(workspace, folder)):
            os.rmdir(os.path.join(workspace, folder))


def _is_folder(workspace: bytes, folder: bytes, known: dict[bytes, bool]) -> bool:
    """Whether it is a real folder, as all above it are: no link may lead out of the workspace. Then we may write in it."""
    if folder not in known:
        full = os.path.join(workspace, folder)
        known[folder] = _is_folder(workspace, os.path.dirname(folder), known) and _is_real_folder(full)
        if known[folder]:
            os.chmod(full, stat.S_IMODE(os.lstat(full).st_mode) | 0o700)
    return known[folder]


def _is_real_folder(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _open_up(place: bytes) -> None:
    """Let the owner read all in a folder. What lies deeper than a path may be long stays as it is."""
    os.chmod(place, stat.S_IMODE(os.lstat(place).st_mode) | 0o700)
    waiting = [place]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            is_folder = entry.is_dir(follow_symlinks=False)
            if not is_folder and not entry.is_file(follow_symlinks=False):
                continue
            try:
                mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                needed = 0o700 if is_folder and mode & 0o500 != 0o500 else 0 if is_folder else 0o400
                if mode & needed != needed:
                    os.chmod(entry.path, mode | needed)
            except OSError:  # too deep, or removed by something that still runs
                continue
            if is_folder:
                waiting.append(entry.path)


def _delete(path: str) -> None:
    script = 'rm -rf -- "$1" 2>/dev/null || { chmod -R u+rwX -- "$1"; rm -rf -- "$1"; }'
    subprocess.run(["sh", "-c", script, "sh", path], check=False, stdin=subprocess.DEVNULL)
    if os.path.lexists(path):
        raise SystemExit(f"{path} could not be removed.")


if __name__ == "__main__":
    strip(*sys.argv[1:])
