"""Root file systems for tests, made of what this machine has: a shell, a few programs, python3 and git."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

PROGRAMS = ("bash", "cat", "chmod", "cp", "cut", "du", "echo", "find", "git", "ls", "mkdir", "rm", "sh", "sleep", "tail", "true")


def make(where: Path) -> Path:
    """A small root file system in the new folder `where`, owned by whoever runs the tests. Copies, for links could not be
    told from the machine's own files."""
    for folder in ("usr/bin", "usr/lib", "usr/sbin", "etc", "opt/tool", "var/lib", "var/tmp", "root", "proc", "srv"):
        (where / folder).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        host = Path("/", name)
        if host.is_symlink():
            (where / name).symlink_to(host.readlink())
            (where / host.readlink()).mkdir(parents=True, exist_ok=True)
        elif host.is_dir():
            (where / name).mkdir()
    for name in PROGRAMS:
        _take(Path(shutil.which(name, path="/usr/bin:/bin") or "/missing"), where)
    python = Path("/usr/bin/python3").resolve()
    _take(python, where)
    (where / "usr/bin/python3").symlink_to(python.name)
    _take_folder(Path("/usr/lib") / python.name, where)
    (where / "etc/os-release").write_text("ID=tiny\n")
    (where / "etc/marker").write_text("of the root\n")
    (where / "usr/bin/only-here").write_text("#!/bin/sh\necho toolchain\n")
    (where / "usr/bin/only-here").chmod(0o755)
    (where / "opt/tool/version").write_text("7\n")
    subprocess.run(["chmod", "-R", "go+rX,go-w", str(where)], check=True)
    return where


def _take(program: Path, where: Path) -> None:
    """A program and the libraries it is linked with, at their own paths."""
    target = where / "usr/bin" / program.name
    shutil.copyfile(program.resolve(), target)
    target.chmod(0o755)
    _take_libraries(program, where)


def _take_libraries(binary: Path, where: Path) -> None:
    listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        target = where / os.path.relpath(library, "/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(library, target)
            target.chmod(0o755)


def _take_folder(folder: Path, where: Path) -> None:
    """A library of Python modules without what tests need none of."""
    ignored = shutil.ignore_patterns("__pycache__", "test", "idlelib", "ensurepip", "lib2to3", "tkinter", "*-packages", "config-*")
    shutil.copytree(folder, where / os.path.relpath(folder, "/"), ignore=ignored, symlinks=True, ignore_dangling_symlinks=True)
    for module in (folder / "lib-dynload").glob("*.so"):
        _take_libraries(module, where)
