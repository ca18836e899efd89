"""The client as people install it: built from the checkout, without anything of the server."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

from asynccode.client import __version__
from tests.spine.product import SOURCE


def run(*argv: str | Path, folder: Path) -> str:
    """What a command says. It sees neither this checkout nor what its .venv has."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "DJANGO_"))}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_pip_installs_is_the_client_alone_and_runs(tmp_path: Path) -> None:
    """`pipx install .` does this in a virtual environment of its own. The packages come from where pip takes them."""
    run(sys.executable, "-m", "build", "--outdir", tmp_path, SOURCE, folder=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    (source,) = tmp_path.glob("*.tar.gz")
    venv.create(tmp_path / "venv", with_pip=True)
    run(tmp_path / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel, folder=tmp_path)

    program = tmp_path / "venv/bin/asynccode"
    assert run(program, "--version", folder=tmp_path) == f"asynccode, version {__version__}\n"
    assert "submit" in run(program, "--help", folder=tmp_path)
    assert "--repo" in run(program, "submit", "--help", folder=tmp_path)

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"asynccode-{__version__}.dist-info/METADATA").decode()
    ours = {str(path.relative_to(SOURCE)) for path in (SOURCE / "asynccode/client").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert "# The command-line client" in metadata
    with tarfile.open(source) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames()}
    assert inside - ours == {"PKG-INFO", "pyproject.toml", "docs/client.md", "LICENSE", ".gitignore"}
