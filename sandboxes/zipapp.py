"""The supervisor as one file, to be put into a sandbox and started with `python3 -I -S`."""

from __future__ import annotations

import functools
import importlib.util
import io
import marshal
import zipfile
from pathlib import Path

INSIDE = Path(__file__).parent / "inside"
_START = "from inside.__main__ import main\n\nmain()\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@functools.cache
def build() -> bytes:
    """The zipapp's bytes: the same ones for the same sources and the same minor version of Python.

    Each module is in it twice. A sandbox whose Python is of our own minor version takes the compiled one, which saves
    half of the supervisor's start; every other one ignores it and compiles the source.
    """
    sources = {f"inside/{path.name}": path.read_bytes() for path in sorted(INSIDE.glob("*.py"))}
    sources["__main__.py"] = _START.encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sources.items():
            archive.writestr(_entry(name), source)
            archive.writestr(_entry(name + "c"), _compiled(name, source))
    return file.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _LONG_AGO)
    info.external_attr = 0o644 << 16
    return info


def _compiled(name: str, source: bytes) -> bytes:
    """A .pyc that is valid whatever the source's time. Marshal's version 2 has no references between objects, whose
    presence would depend on what else this process has loaded."""
    is_unchecked_hash = (1).to_bytes(4, "little")
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + is_unchecked_hash + importlib.util.source_hash(source) + marshal.dumps(code, 2)
