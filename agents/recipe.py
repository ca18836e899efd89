"""What `agents/install.py` makes on this machine, as shell for an image that has Node and is built somewhere else."""

from __future__ import annotations

import shlex
from pathlib import Path

from agents import install
from agents.packages import INSIDE, Package

_SCRIPT = "@SCRIPT@"


def commands(package: Package, root: str = INSIDE) -> list[str]:
    """Shell commands, to be joined by `&&` and run by an account that may write to `root`: the package lies in NAME/VERSION below
    it as `install.put` lays it, its program has been seen to say its version, and ROOT/bin has a starter of it for the PATH."""
    folder = f"{root}/{package.name}/{package.version}"
    program = f"{folder}/bin/{package.program}"
    on_path = f"{root}/bin/{package.program}"
    return [
        "umask 022",
        f"mkdir -p {root}/bin {folder}/bin",
        f"cd {folder}",
        "export HOME=$(mktemp -d)",  # where npm keeps what it has fetched, and programs what they try to remember
        shlex.join(["npm", *install.npm_arguments(package, Path("."))]),
        "chmod -R u+rwX,go+rX,go-w .",
        *(_script(package) if package.needs_node else _native(package)),
        _not_there(package),
        _printed(f'#!/bin/sh\nexec {program} "$@"\n', on_path),
        f"chmod 755 {on_path}",
        'rm -rf "$HOME"',
    ]


def _script(package: Package) -> list[str]:
    program = f"bin/{package.program}"
    return [
        f"script=$(realpath --relative-to=. node_modules/.bin/{package.program})",
        'ln -sfn "$(command -v node)" bin/node',
        _printed(install.starter(_SCRIPT), program),
        f'sed -i "s|{_SCRIPT}|$script|" {program}',
        f"chmod 755 {program}",
        f"{{ {_says_version(package, program)} || rm {program}; }}",
    ]


def _native(package: Package) -> list[str]:
    """The first of the programs for several kinds of machines that works on this one; the others go."""
    depth = 3 if package.binary.startswith("@") else 2  # node_modules, a scope, a package
    candidates = f"node_modules/{package.binary}"
    in_order = f"$(printf '%s\\n' {candidates} | tr / '\\1' | LC_ALL=C sort | tr '\\1' /)"  # one without a suffix before those with one
    link = f'ln -sfn "../$program" bin/{package.program}; break'
    return [
        f"for program in {in_order}; do if {_says_version(package, '$program')}; then {link}; fi; done",
        f'for other in {candidates}; do part=$(echo "$other" | cut -d/ -f1-{depth}); '
        'case "$program" in "$part"/*) ;; *) rm -rf "$part" ;; esac; done',
    ]


def _says_version(package: Package, program: str) -> str:
    return f'said=$("{program}" --version 2>&1) && [ "${{said#*{package.version}}}" != "$said" ]'


def _not_there(package: Package) -> str:
    problem = f"{package.program} {package.version} does not work here"
    return f'{{ [ -e bin/{package.program} ] || {{ echo "{problem}: $said" >&2; false; }}; }}'


def _printed(text: str, path: str) -> str:
    return f"printf %s {shlex.quote(text)} > {path}"
