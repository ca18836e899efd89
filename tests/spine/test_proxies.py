"""The product behind nginx and Caddy, with the files of docs/deploy: pages, sockets, streams, uploads, and whose address it is."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.spine.product import SOURCE, Product, wait_for

NAME = "asynccode.example.org"
CLIENT = "127.0.0.2"  # where the test asks from; the proxies ask from 127.0.0.1
LIAR = "203.0.113.66"
NOBODY = 65534
MIB = 2**20

pytestmark = pytest.mark.long


class Proxy:
    """A proxy that listens on `port` of loopback with TLS, and who asks it as `CLIENT`."""

    def __init__(self, port: int, certificate: Path, log: Path) -> None:
        self.port, self.log = port, log
        self.tls = ssl.create_default_context(cafile=str(certificate))
        self.http = self.client()

    def client(self, **headers: str) -> httpx.Client:
        """What a browser sends for https://NAME/, connected to our port; nothing about who it is can be told to a proxy."""
        lies = {"X-Forwarded-For": LIAR, "X-Real-IP": LIAR, "Forwarded": f"for={LIAR}", "X-Forwarded-Proto": "http"}
        asks = {"Host": NAME, "Referer": f"https://{NAME}/", "Accept-Encoding": "gzip, br", **lies, **headers}
        transport = httpx.HTTPTransport(verify=self.tls, local_address=CLIENT)
        client = httpx.Client(base_url=f"https://127.0.0.1:{self.port}", headers=asks, transport=transport, timeout=60)

        def named(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = NAME

        client.event_hooks["request"].append(named)
        return client

    def post(self, path: str, *, files: Any = None, **fields: Any) -> httpx.Response:
        return self.http.post(path, data={"csrfmiddlewaretoken": self.http.cookies["csrftoken"], **fields}, files=files)

    @contextmanager
    def websocket(self, path: str) -> Iterator[Callable[[], dict[str, Any]]]:
        """A socket as the page opens it; what the block gets waits for the next message."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {NAME}", f"Origin: https://{NAME}", f"Cookie: {cookies}", f"X-Forwarded-For: {LIAR}"]
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(CLIENT, 0))
        with self.tls.wrap_socket(plain, server_hostname=NAME) as connection, connection.makefile("rb") as stream:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = [line for line in iter(stream.readline, b"\r\n") if line]
            assert b"101" in answer[0], answer

            def message() -> dict[str, Any]:
                while True:
                    kind, size = stream.read(2)
                    length = {126: 2, 127: 8}.get(size & 0x7F)
                    text = stream.read(int.from_bytes(stream.read(length), "big") if length else size & 0x7F)
                    if kind & 0x0F == 1:
                        connection.sendall(b"\x81\x82\0\0\0\0{}")  # taken: the next one may come
                        found: dict[str, Any] = json.loads(text)
                        return found

            yield message


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    product = Product(CHECKPOINT_S="1", PUBLIC_URL=f"https://{NAME}", TRUSTED_PROXIES="127.0.0.1")
    try:
        yield product
    finally:
        product.close()


@pytest.fixture(scope="module")
def upstream(product: Product) -> int:
    """The port of the pages; what users see is another address."""
    port = free_port()
    product.start("--port", str(port))
    return port


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(made, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def nginx(folder: Path, port: int, plain_port: int, upstream: int, certificate: Path) -> list[str]:
    """The command of nginx with our file, in a frame that needs no root; only ports, places and upstream are others."""
    site = (SOURCE / "docs/deploy/nginx.conf").read_text()
    for old, new in (
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("listen 80;", f"listen 127.0.0.1:{plain_port};"),
        ("/etc/letsencrypt/live/asynccode.example.org/fullchain.pem", str(certificate)),
        ("/etc/letsencrypt/live/asynccode.example.org/privkey.pem", str(certificate)),
        ("/var/log/nginx/asynccode.log", str(folder / "access.log")),
        ("http://127.0.0.1:8000", f"http://127.0.0.1:{upstream}"),
    ):
        assert old in site
        site = site.replace(old, new)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    frame = f"daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;\nevents {{}}\nhttp {{\ngzip on;\n{temporary}{site}}}\n"
    (folder / "nginx.conf").write_text(frame)
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, plain_port: int, upstream: int, certificate: Path) -> list[str]:
    site = (SOURCE / "docs/deploy/Caddyfile").read_text()
    for old, new in (
        ("asynccode.example.org {", f"asynccode.example.org:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {certificate}"),
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
    ):
        assert old in site
        site = site.replace(old, new)
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\thttp_port {plain_port}\n\thttps_port {port}\n}}\n{site}")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, product: Product, upstream: int, certificate: Path) -> Iterator[Proxy]:
    command = request.param
    program = shutil.which(command.__name__, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip(f"{command.__name__} is not installed")
    folder, port, plain_port = product.folder / command.__name__, free_port(), free_port()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    both = Path(shutil.copy(certificate, folder))
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for path in (folder, both):
            os.chown(path, NOBODY, NOBODY)
    _, *arguments = command(folder, port, plain_port, upstream, both)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], cwd=folder, env=environment, stdout=log, stderr=log, **account)
    try:
        found = Proxy(port, both, folder / "access.log")
        wait_for(lambda: process.poll() is not None or answers(port), (folder / "log").read_text(), 20)
        assert process.poll() is None, (folder / "log").read_text()
        yield found
        found.http.close()
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sign_in(product: Product, proxy: Proxy) -> None:
    link = product.manage("login-link").stdout.strip().removeprefix(f"https://{NAME}")
    assert proxy.http.get(link).status_code == 200
    assert proxy.post(link).headers["Location"] == "/"


def test_pages_cookies_and_the_address_of_who_signs_in(product: Product, proxy: Proxy) -> None:
    asked = proxy.http.get("/")
    assert (asked.status_code, asked.headers["Location"]) == (302, "/sign-in/?next=/")
    sign_in(product, proxy)
    page = proxy.http.get("/")
    assert page.status_code == 200
    assert "Content-Encoding" not in page.headers
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert all(cookie.secure for cookie in proxy.http.cookies.jar)
    style = re.search(r'href="(/static/[^"]+\.css)"', page.text)
    assert style
    assert proxy.http.get(style[1]).headers["Content-Encoding"] in ("gzip", "br")
    # The proxy's word counts, not the client's: neither what it says of itself, nor that it speaks http.
    signed_in = product.rows("SELECT host(address) AS address FROM tasks_auditentry WHERE kind = 'signed_in' ORDER BY id DESC LIMIT 1")
    assert signed_in == [{"address": CLIENT}]
    if proxy.log.exists():
        assert "GET / " in proxy.log.read_text()
        assert "/sign-in/link/" not in proxy.log.read_text()


def test_sockets_and_streams_bring_events_while_the_run_is_at_work(product: Product, proxy: Proxy) -> None:
    sign_in(product, proxy)
    code = "from tasks import tokens; from tasks.models import User; "
    code += f"print(tokens.create_token(user=User.objects.first(), name='{proxy.port}', scope='write', expires_in_days=7)[1])"
    token = product.manage("shell", "-v", "0", "-c", code).stdout.split()[-1]
    with proxy.client(Authorization=f"Bearer {token}") as api, ExitStack() as stack:
        with product.witness.held("live"):
            (run,) = product.submit(f"echo early; {product.witness.call('live')}echo late")
            message = stack.enter_context(proxy.websocket(f"/ws/runs/{run}/?after=0"))
            stream = stack.enter_context(api.stream("GET", f"/api/v1/runs/{run}/events/stream"))
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            while "early" not in message()["html"]:
                pass
            while "early" not in next(lines):
                pass
            assert product.run(run)["status"] == "running"
        while "late" not in message()["html"]:
            pass
        rest = list(lines)
    assert any("late" in line for line in rest)
    assert "event: end" in rest


def test_attachments_up_to_what_the_product_takes(product: Product, proxy: Proxy) -> None:
    sign_in(product, proxy)
    repo = product.rows("SELECT id FROM tasks_repo ORDER BY id LIMIT 1")[0]["id"]

    def send(*sizes: int) -> httpx.Response:
        files = [("files", (f"{number}.bin", os.urandom(size))) for number, size in enumerate(sizes)]
        return proxy.post("/tasks/new", files=files, prompt="wc -c $ASYNCCODE_ATTACHMENTS/*", repo=repo, mode="code", **{"runs-shell": 1})

    sent = send(10 * MIB, 10 * MIB, 5 * MIB)
    assert sent.status_code in (302, 303), sent.text[:2000]
    assert "/tasks/" in sent.headers["Location"]
    assert send(10 * MIB, 10 * MIB, 5 * MIB + 1).status_code == 422  # in our words
    assert send(10 * MIB, 10 * MIB, 10 * MIB, 10 * MIB).status_code in (413, 502)  # in the proxy's: Caddy 2.6 says 502
