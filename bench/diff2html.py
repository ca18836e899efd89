"""diff2html (MIT), the library with which pages most often show a patch: the same patch on a page of its own, from a server here.

The page is the one of diff2html's documentation: its bundle with highlight.js in it, and `draw()` with the options that it has by
default, which are line by line, with words that changed, and highlighted. The files are fetched from npm's registry once.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.management.base import CommandError

VERSION = "3.4.56"
_KEPT = Path.home() / ".cache" / "asynccode-bench" / f"diff2html-{VERSION}"
_FILES = ("js/diff2html-ui.min.js", "css/diff2html.min.css")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>diff2html</title>
<link rel="stylesheet" href="diff2html.min.css">
<script src="diff2html-ui.min.js"></script>
<div id="diff"></div>
<script>
fetch("changes.patch").then((answer) => answer.text()).then((patch) => {
  new Diff2HtmlUI(document.getElementById("diff"), patch).draw();
});
</script>
"""


def _fetched() -> Path:
    """The folder of the bundles."""
    bundles = _KEPT / "package" / "bundles"
    if bundles.is_dir():
        return bundles
    npm = shutil.which("npm")
    if npm is None:
        raise CommandError("This bench compares with diff2html, which it fetches with npm; npm was not found. On Debian: apt install npm")
    _KEPT.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([npm, "pack", "--silent", f"diff2html@{VERSION}"], cwd=_KEPT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CommandError(f"diff2html could not be fetched from npm's registry: {done.stderr.strip()}")
    shutil.unpack_archive(_KEPT / done.stdout.split()[-1], _KEPT, "gztar", filter="data")
    return bundles


@contextmanager
def served(folder: Path, patch: bytes) -> Iterator[str]:
    """The address of a page that shows the patch, in a new folder."""
    bundles = _fetched()
    folder.mkdir()
    for name in _FILES:
        shutil.copy(bundles / name, folder)
    (folder / "changes.patch").write_bytes(patch)
    (folder / "index.html").write_text(_PAGE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
