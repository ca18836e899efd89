from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sandboxes.inside._houses import PATIENCE_S, House, processes_with, until


class Gateway:
    """Answers each connection with its name and what it got, once the other side has said all."""

    def __init__(self, path: Path, name: str = "first") -> None:
        self._name = name.encode()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(300)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock, contextlib.suppress(ConnectionError):  # a bridge that was killed hears no answer
                    sock.sendall(self._name + b":" + hear(sock))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


class Network:
    """A supervisor with a bridge, and gateways to put behind it."""

    def __init__(self, house: House, folder: Path, port: int) -> None:
        self.house, self.port = house, port
        self.path = folder / "gateway.sock"
        self._gateway: Gateway | None = None

    def open(self, name: str = "first") -> None:
        self.close()
        self.path.unlink(missing_ok=True)
        self._gateway = Gateway(self.path, name)

    def close(self) -> None:
        if self._gateway is not None:
            self._gateway.close()
            self._gateway = None

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def ask(self, data: bytes) -> bytes:
        with self.connect() as sock:
            return finish(sock, data)

    @property
    def bridge(self) -> int | None:
        """The bridge's process, when there is one."""
        children = Path(f"/proc/{self.house.pid}/task/{self.house.pid}/children").read_text().split()
        return int(children[0]) if children else None


def finish(sock: socket.socket, data: bytes) -> bytes:
    """Say `data` and that it is all; hear the answer to its end."""
    sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
    sender.start()
    answer = hear(sock)
    sender.join()
    return answer


def hear(sock: socket.socket) -> bytes:
    """All until the other side has finished."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.fixture
def network(make_house: Callable[..., House], tmp_path: Path) -> Iterator[Network]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "gateway"
    folder.mkdir()
    network = Network(make_house(), folder, port)
    network.house.start(gateway=network.path, bridge_port=port)
    yield network
    network.close()


def test_bytes_pass_both_ways_and_each_side_may_finish_first(network: Network) -> None:
    network.open()
    data = os.urandom(5_000_000)
    assert network.ask(data) == b"first:" + data
    assert network.ask(b"") == b"first:"


def test_steps_are_told_of_it(network: Network) -> None:
    network.house.run("env | grep -i proxy | sort")
    url = f"http://127.0.0.1:{network.port}"
    assert network.house.lines() == [
        f"HTTPS_PROXY={url}", f"HTTP_PROXY={url}", "NO_PROXY=localhost,127.0.0.1,::1", f"http_proxy={url}", f"https_proxy={url}",
    ]  # fmt: skip


def test_there_is_no_bridge_until_somebody_connects(network: Network) -> None:
    network.open()
    assert network.bridge is None
    network.ask(b"x")
    assert network.bridge is not None


def test_connections_are_held_while_the_gateway_is_missing(network: Network) -> None:
    with network.connect() as sock:
        sock.sendall(b"early ")
        until(lambda: network.bridge)
        network.open()
        assert finish(sock, b"bird") == b"first:early bird"


def test_connections_are_held_while_the_gateway_is_replaced(network: Network) -> None:
    network.open()
    network.ask(b"x")
    network.close()  # its socket is still there, and refuses
    with network.connect() as sock:
        network.open("second")
        assert finish(sock, b"x") == b"second:x"


def test_a_connection_that_was_held_for_too_long_is_told_so(network: Network) -> None:
    network.house.close()
    network.house.start(gateway=network.path, bridge_port=network.port, hold_seconds=0.1)
    answer = network.ask(b"")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"gateway is not running" in answer


def test_a_killed_bridge_is_replaced(network: Network) -> None:
    network.open()
    network.ask(b"x")
    before = network.bridge
    os.kill(before, signal.SIGKILL)
    assert network.ask(b"y") == b"first:y"
    assert network.bridge != before


def test_the_end_of_a_step_ends_its_connections_and_not_the_next_one_s(network: Network) -> None:
    network.open()
    network.house.run(f"exec 3<>/dev/tcp/127.0.0.1/{network.port}; echo x >&3")
    assert network.ask(b"y") == b"first:y"


def test_many_connections_at_once_are_served(network: Network) -> None:
    network.open()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(network.connect()) for _ in range(300)]  # more than the bridge takes on
        for sock in socks:
            assert finish(sock, b"x") == b"first:x"


def test_the_bridge_has_neither_the_journal_nor_the_control_socket(network: Network) -> None:
    network.open()
    network.ask(b"x")

    def targets() -> set[str]:
        return {os.readlink(link) for link in Path(f"/proc/{network.bridge}/fd").iterdir()}

    assert str(network.house.journal) not in targets()
    until(lambda: len([target for target in targets() if target.startswith("socket:")]) == 1)  # the listening one


def test_a_taken_port_is_a_clear_error(network: Network, make_house: Callable[..., House]) -> None:
    other = make_house()
    words = ["--state", other.state, "--scratch", other.folder / "scratch", "--gateway", "/none", "--bridge-port", str(network.port)]
    done = subprocess.run(["python3", "-I", "-S", other.app, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "The supervisor cannot start: [Errno 98] Address already in use\n")
    assert not processes_with(str(other.state))
