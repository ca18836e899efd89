from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sandboxes.inside import frames


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_a_message_arrives_with_its_raw_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    frames.send(here, {"do": "put", "path": "/ü\udc80"}, b"\0raw")
    message = frames.receive(there)
    assert message == {"do": "put", "path": "/ü\udc80", "size": 4}
    assert frames.read_exactly(there, frames.raw_size(message)) == b"\0raw"


def test_messages_follow_each_other(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    for number in range(3):
        frames.send(here, {"n": number})
    assert [frames.receive(there)["n"] for _ in range(3)] == [0, 1, 2]


def test_a_peer_that_leaves_in_the_middle_is_an_end_of_file(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    here.sendall(frames.encode({"do": "ping"})[:-1])
    here.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        frames.receive(there)


@pytest.mark.parametrize("body", [b"[]", b"nonsense", b"\xff", b"[" * 100_000, b"1"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(frames.FrameError):
        frames.decode(body)


def test_a_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    with pytest.raises(frames.FrameError):
        frames.body_length(frames.LENGTH.pack(frames.HEADER_MAX + 1))


@pytest.mark.parametrize("size", [-1, True, 1.5, "3", None])
def test_a_size_that_is_no_number_of_bytes_is_refused(size: object) -> None:
    with pytest.raises(frames.FrameError):
        frames.raw_size({"size": size})
