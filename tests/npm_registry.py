"""An npm registry on loopback, for installing without the network: npm finds it by `npm_config_registry`."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

# Says its version only to an account that may do nothing, without our environment.
PROGRAM = """#!/usr/bin/env node
if (process.getuid() === 0 || process.env.ANTHROPIC_API_KEY) process.exit(9);
console.log("demo 1.2.3", ...process.argv.slice(2));
"""


class Registry:
    """An npm registry on loopback. `hold()` lets nobody have a package until `go()`."""

    def __init__(self) -> None:
        self.packages: dict[str, dict[str, bytes]] = {}  # name → version → tarball
        self.about: dict[str, dict[str, object]] = {}
        self.damage = False
        self.downloads = 0
        self.asked, self._may_go = threading.Event(), threading.Event()
        self._may_go.set()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, body = registry.answer(unquote(self.path.partition("?")[0].strip("/")))
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # npm was killed

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def add(self, name: str, version: str, files: dict[str, str | bytes], *, needs: dict[str, str] | None = None, **more: object) -> None:
        about: dict[str, object] = {"name": name, "version": version, "dependencies": needs or {}, **more}
        with io.BytesIO() as packed:
            with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as zipped, tarfile.open(fileobj=zipped, mode="w|") as tar:
                for path, content in {**files, "package.json": json.dumps(about)}.items():
                    content = content.encode() if isinstance(content, str) else content
                    member = tarfile.TarInfo(f"package/{path}")
                    member.size, member.mode = len(content), 0o700
                    tar.addfile(member, io.BytesIO(content))
            self.packages.setdefault(name, {})[version] = packed.getvalue()
        self.about[name] = about

    def answer(self, path: str) -> tuple[int, bytes]:
        if path.endswith(".tgz"):
            name, version = path.removesuffix(".tgz").split("/-/")
            self.downloads += 1
            self.asked.set()
            self._may_go.wait()
            tarball = self.packages[name][version]
            return 200, tarball[:-20] + bytes(20) if self.damage else tarball
        if path not in self.packages:
            return 404, b'{"error": "Not found"}'
        versions = {}
        for version, tarball in self.packages[path].items():
            sha512 = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
            dist = {"tarball": f"{self.url}/{path}/-/{version}.tgz", "integrity": f"sha512-{sha512}"}
            versions[version] = {**self.about[path], "dist": dist}
        return 200, json.dumps({"name": path, "dist-tags": {"latest": version}, "versions": versions}).encode()

    def hold(self) -> None:
        self._may_go.clear()

    def go(self) -> None:
        self._may_go.set()

    def close(self) -> None:
        self.go()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
