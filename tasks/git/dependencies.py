"""Which files of a commit say what a setup script installs: lock files and their like, and what the script itself names.

The tree is the repository's, so its names and numbers may be anything: they are counted in, never opened.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from tasks.git.commands import git

_TIMEOUT_S = 10.0
_MOST_WORDS = 2000  # of a script

_NAMES = frozenset(
    name.encode()
    for name in (
        *("package.json", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "deno.lock"),
        *("pyproject.toml", "poetry.lock", "uv.lock", "pdm.lock", "Pipfile", "Pipfile.lock", "setup.py", "setup.cfg"),
        *("environment.yml", "environment.yaml", "Gemfile", "Gemfile.lock", "Cargo.lock", "go.mod", "go.sum", "composer.lock"),
        *("mix.lock", "rebar.lock", "pubspec.lock", "Podfile.lock", "Package.resolved", "stack.yaml.lock", "flake.lock"),
        *("pom.xml", "gradle.lockfile", "gradle-wrapper.properties", "libs.versions.toml", "packages.lock.json", "global.json"),
        *(".nvmrc", ".node-version", ".python-version", ".ruby-version", ".tool-versions", "rust-toolchain", "rust-toolchain.toml"),
    )
)
_PATTERN = re.compile(rb"requirements[^/]*\.txt|constraints[^/]*\.txt|(?:build|settings)\.gradle(?:\.kts)?|[^/]+\.(?:csproj|fsproj|nimble)")
_WORD = re.compile(r"[\w@%+=.,/-]+")


@lru_cache(maxsize=1024)
def fingerprint(path: Path, commit: str, script: str) -> str:
    """A hash of these files' paths and contents, as they are at `commit` in the mirror at `path`. RepoUnavailable (GitTimedOut)."""
    named = {word.removeprefix("./").encode() for word in _WORD.findall(script)[:_MOST_WORDS]}
    found = hashlib.sha256()
    for entry in git(["ls-tree", "-r", "-z", "--full-tree", commit], git_dir=path, timeout=_TIMEOUT_S).split(b"\0"):
        _, _, file = entry.partition(b"\t")
        name = file.rpartition(b"/")[2]
        if name in _NAMES or file in named or _PATTERN.fullmatch(name):
            found.update(entry + b"\0")
    return found.hexdigest()
