"""A tiny Model Context Protocol server, on its standard input and output or over HTTP; it writes down what it is asked.

Of itself it needs the standard library only, so that it can be put into a sandbox as it is: `python3 _mcp.py`, with the file for
what it is asked in SEEN. https://modelcontextprotocol.io/specification/2025-06-18/basic/transports
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from typing import Any

TOOL = {
    "name": "sunshine",
    "description": "Says the weather.",
    "inputSchema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


def answer(asked: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to one message; None to what wants none."""
    if "id" not in asked or "method" not in asked:
        return None
    method, params = asked["method"], asked.get("params") or {}
    about: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
    if method == "initialize":
        info = {"name": "weather", "version": "1"}
        result: dict[str, Any] = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": f"Sun in {params['arguments']['place']}."}], "isError": False}
    elif method == "ping":
        result = {}
    else:
        return {**about, "error": {"code": -32601, "message": f"There is no {method}."}}
    return {**about, "result": result}


def main() -> None:
    with open(os.environ["SEEN"], "a") as seen:
        print(json.dumps({"env": dict(os.environ)}), file=seen, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps({"method": asked.get("method")}), file=seen, flush=True)
            if (said := answer(asked)) is not None:
                sys.stdout.write(json.dumps(said) + "\n")
                sys.stdout.flush()


class HttpServer:
    """The same on a loopback address that no list of exceptions from proxies names. `methods` were asked so far."""

    host = "127.0.0.2"

    def __init__(self) -> None:
        self.methods: list[str] = []
        methods = self.methods

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                methods.append(str(asked.get("method")))
                said = answer(asked)
                body = json.dumps(said).encode() if said is not None else b""
                self.send_response(200 if said is not None else 202)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:  # it never begins a conversation
                self.send_response(405)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer((self.host, 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/mcp"

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


if __name__ == "__main__":
    main()
