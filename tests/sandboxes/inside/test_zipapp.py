from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sandboxes import zipapp

SOURCES = sorted(zipapp.INSIDE.glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_syntax_is_that_of_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_the_standard_library_is_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.split(".")[0] in sys.stdlib_module_names


def test_the_same_sources_give_the_same_bytes_in_any_process() -> None:
    digest = "import hashlib; from sandboxes import zipapp; print(hashlib.sha256(zipapp.build()).hexdigest())"
    root = str(zipapp.INSIDE.parent.parent)
    digests = {
        subprocess.run(
            [sys.executable, "-c", extra + digest], env={"PYTHONHASHSEED": seed, "PYTHONPATH": root}, check=True, capture_output=True
        ).stdout
        for seed, extra in (("1", ""), ("2", "import asyncio, email, http.client; "))
    }
    assert len(digests) == 1


def test_it_holds_the_inside_modules_and_nothing_of_this_machine() -> None:
    archive = zipfile.ZipFile(io.BytesIO(zipapp.build()))
    names = {name for name in archive.namelist() if not name.endswith("c")}
    assert names == {"__main__.py", *(f"inside/{path.name}" for path in SOURCES)}
    assert all(str(zipapp.INSIDE.parent).encode() not in archive.read(name) for name in archive.namelist())


def test_another_python_takes_the_sources_instead_of_the_compiled_modules(tmp_path: Path) -> None:
    archive = zipfile.ZipFile(io.BytesIO(zipapp.build()))
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(other, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            changed.writestr(name, b"\0\0\r\n" + content[4:] if name.endswith("c") else content)
    done = subprocess.run([sys.executable, "-I", "-S", other], capture_output=True, text=True, env=os.environ)
    assert done.returncode != 0
    assert "usage: --journal-fd" in done.stderr
