from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxes.inside import frames
from tests.sandboxes.inside._houses import House, processes_with, until


def test_a_file_comes_back_as_it_was_put(each_house: House) -> None:
    path, content = str(each_house.workspace / "new" / "fi\nle"), os.urandom(3_000_000)
    assert each_house.ask("put", content, path=path, mode=0o640) == {"ok": True}
    assert os.stat(path).st_mode & 0o7777 == 0o640
    assert each_house.ask("get", path=path)["raw"] == content


def test_a_put_replaces_what_was_there(house: House) -> None:
    path = house.workspace / "file"
    path.write_bytes(b"longer than the next")
    house.ask("put", b"short", path=str(path), mode=0o644)
    assert path.read_bytes() == b"short"
    house.ask("put", b"", path=str(path), mode=0o644)
    assert path.read_bytes() == b""


def test_one_connection_carries_many_requests(house: House) -> None:
    client = house.client()
    for number in range(5):
        path = str(house.workspace / str(number))
        assert client.ask("put", b"x" * number, path=path, mode=0o644)[0] == {"ok": True}
        assert client.ask("get", path=path)[1] == b"x" * number
    assert client.ask("ping")[0]["ok"]


@pytest.mark.parametrize(
    ("path", "error"), [("missing", "missing"), ("folder", "failed"), ("pipe", "failed"), ("folder/file/x", "missing")]
)
def test_what_cannot_be_read_is_refused(house: House, path: str, error: str) -> None:
    (house.workspace / "folder").mkdir()
    (house.workspace / "folder" / "file").touch()
    os.mkfifo(house.workspace / "pipe")
    reply = house.ask("get", path=str(house.workspace / path))
    assert (reply["ok"], reply["error"]) == (False, error)


@pytest.mark.parametrize("request_", [{"path": "relative"}, {"path": "/nul\0"}, {"path": None}, {}])
def test_a_path_that_is_none_is_refused(house: House, request_: dict[str, object]) -> None:
    assert house.ask("get", **request_)["error"] == "bad"


def test_a_put_that_fails_leaves_the_connection_usable(house: House) -> None:
    os.mkfifo(house.workspace / "pipe")
    client = house.client()
    reply, _ = client.ask("put", b"x" * 1_000_000, path=str(house.workspace / "pipe"), mode=0o644)
    assert reply["error"] == "failed"
    assert client.ask("ping")[0]["ok"]


@pytest.mark.parametrize("mode", ["state", "descriptors", "init"])
def test_planted_links_lead_neither_to_the_journal_nor_to_the_control_socket(make_house: Callable[..., House], mode: str) -> None:
    house = make_house(mode).start()
    for fd in range(24):
        for who in ("self", "thread-self", str(house.ask("ping")["pid"])):
            path = house.workspace / f"{who}-{fd}"
            path.symlink_to(f"/proc/{who}/fd/{fd}")
            if who in ("self", "thread-self"):
                assert b'"kind"' not in house.ask("get", path=str(path)).get("raw", b"")
                house.ask("put", b"forged\n", path=str(path), mode=0o644)
    house.run({"argv": ["true"], "files": {str(house.workspace / f"self-{fd}"): "forged" for fd in range(1)}})
    assert b"forged" not in house.journal.read_bytes()
    assert [record["n"] for record in house.records()] == list(range(1, len(house.records()) + 1))


def test_who_hides_is_not_dumpable(house: House) -> None:
    script = "import ctypes; from sandboxes.inside import kernel; kernel.hide(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    reply = house.ask("run", argv=["python3", "-c", script], timeout=10, env={"PYTHONPATH": str(Path(__file__).parents[3])})
    assert reply["raw"] == b"0\n"


def test_run_gives_output_and_code(each_house: House) -> None:
    reply = each_house.ask("run", argv=["sh", "-c", "pwd; echo $COLOR >&2; exit 3"], timeout=10, env={"COLOR": "blue"})
    output = f"{each_house.workspace}\n".encode()
    assert (reply["code"], reply["is_timed_out"], reply["raw"]) == (3, False, output + b"blue\n")
    assert reply["stdout"] == len(output)


def test_run_says_what_cannot_be_started(house: House) -> None:
    reply = house.ask("run", argv=["no-such-command"], timeout=10)
    assert reply["error"] == "failed"
    assert reply["message"] == "The command 'no-such-command' could not be started: No such file or directory."


def test_run_kills_all_of_it_when_the_time_is_up(each_house: House) -> None:
    mark = f"{each_house.folder}/mark"
    script = f"trap '' TERM; echo begun; setsid sh -c 'sleep 1000; : {mark}' & sleep 1000; : {mark}"
    reply = each_house.ask("run", argv=["sh", "-c", script], timeout=0.3)
    assert (reply["is_timed_out"], reply["code"], reply["raw"]) == (True, -signal.SIGKILL, b"begun\n")
    assert not processes_with(mark)


def test_run_leaves_nothing_behind(house: House) -> None:
    mark = f"{house.folder}/mark"
    house.ask("run", argv=["sh", "-c", f"(setsid sh -c 'sleep 1000; : {mark}' &)"], timeout=10)
    assert not processes_with(mark)


def test_run_cuts_its_output(house: House) -> None:
    reply = house.ask("run", argv=["sh", "-c", "head -c 20000000 /dev/zero; echo done >&2"], timeout=20)
    assert (reply["stdout"], reply["raw"][-5:]) == (16 * 1024 * 1024, b"done\n")


def test_runs_are_served_side_by_side_and_beside_a_turn(house: House) -> None:
    house.turn("until [ -e go ]; do sleep 0.01; done")
    house.wait_step()
    first, second = house.client(), house.client()
    frames.send(first.sock, {"do": "run", "argv": ["sh", "-c", "until [ -e second ]; do sleep 0.01; done; echo 1"], "timeout": 10})
    assert second.ask("run", argv=["sh", "-c", "touch second; echo 2"], timeout=10)[1] == b"2\n"
    assert first.reply()[1] == b"1\n"
    (house.workspace / "go").touch()
    assert house.end()["reason"] == "exit"


def test_a_run_that_the_end_of_a_step_killed_has_failed(house: House) -> None:
    house.turn("until [ -e begun ]; do sleep 0.01; done")
    house.wait_step()
    client = house.client()
    assert client.ask("run", argv=["sh", "-c", "touch begun; exec sleep 1000"], timeout=20)[0]["error"] == "failed"
    assert client.ask("ping")[0]["ok"]


def test_a_client_that_says_half_a_message_stalls_nobody(house: House) -> None:
    slow = [house.client() for _ in range(5)]
    for client in slow:
        client.sock.sendall(b"\0\0")
    assert house.ask("ping")["ok"]
    assert house.run("echo fine")["reason"] == "exit"


def test_a_client_that_does_not_read_its_file_stalls_nobody(house: House) -> None:
    path = house.workspace / "big"
    path.write_bytes(bytes(20_000_000))
    frames.send(house.client().sock, {"do": "get", "path": str(path)})
    started = time.monotonic()
    assert house.run("echo fine")["reason"] == "exit"
    assert time.monotonic() - started < 5


def test_a_client_that_leaves_in_the_middle_of_a_put_stalls_nobody(house: House) -> None:
    client = house.client()
    client.sock.sendall(frames.encode({"do": "put", "path": str(house.workspace / "half"), "mode": 0o644, "size": 1000}) + b"half")
    client.sock.close()
    assert house.ask("ping")["ok"]


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\3[1]", b"\0\0\0\2{x", frames.encode({"do": "ping", "size": -1})])
def test_nonsense_is_answered_and_the_connection_closed(house: House, data: bytes) -> None:
    client = house.client()
    client.sock.sendall(data)
    assert client.reply()[0]["error"] == "bad"
    with pytest.raises((EOFError, ConnectionError)):
        client.ask("ping")
    assert house.ask("ping")["ok"]


@pytest.mark.parametrize(
    "request_", [{"do": "dance"}, {"do": None}, {}, {"do": "run", "argv": []}, {"do": "run", "argv": ["x"], "timeout": 0}]
)
def test_a_request_that_is_none_is_refused(house: House, request_: dict[str, object]) -> None:
    client = house.client()
    frames.send(client.sock, request_)
    assert client.reply()[0]["error"] == "bad"


def test_too_many_clients_cost_the_longest_idle_one_its_place(house: House) -> None:
    clients = [house.client() for _ in range(64)]
    for client in clients:
        assert client.ask("ping")[0]["ok"]
    assert house.client().ask("ping")[0]["ok"]
    with pytest.raises((EOFError, ConnectionError)):
        clients[0].ask("ping")
    assert clients[-1].ask("ping")[0]["ok"]


def test_a_long_spec_is_taken(house: House) -> None:
    path = str(house.home / "prompt")
    house.run({"argv": ["wc", "-c", path], "files": {path: "x" * (4 * 1024 * 1024 - 10_000)}})
    assert house.lines() == [f"{4 * 1024 * 1024 - 10_000} {path}"]


def test_the_control_socket_is_for_its_owner_alone(house: House) -> None:
    assert os.stat(house.socket).st_mode & 0o777 == 0o600
    assert os.stat(house.journal).st_mode & 0o777 == 0o600
    assert os.stat(house.folder / "scratch").st_mode & 0o777 == 0o700


def test_a_transfer_is_not_torn_by_the_end_of_a_step(house: House) -> None:
    path = house.home / "file"
    path.write_bytes(bytes(3_000_000))
    client = house.client()
    frames.send(client.sock, {"do": "get", "path": str(path)})
    assert frames.raw_size(frames.receive(client.sock)) == 3_000_000
    house.turn("true")
    until(lambda: house.records("step", step="checkout") or house.records("turn"))
    assert len(frames.read_exactly(client.sock, 3_000_000)) == 3_000_000
    assert house.end()["reason"] == "exit"
