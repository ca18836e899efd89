"""What a person sees and types."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat

from tests.client.conftest import Desk, World
from tests.client.relay import Relay
from tests.spine.product import wait_for


def test_a_token_is_asked_for_and_never_shown(stranger: Desk, world: World) -> None:
    with stranger.at_terminal("login", world.url) as terminal:
        terminal.until("Token: ")
        terminal.type(f"{world.write}\n")
        assert terminal.ended() == 0, terminal.text
    assert f"Signed in at {world.url} as " in terminal.text
    assert world.write not in terminal.text
    kept = stranger.folder.parent / "config" / "asynccode" / "credentials"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert world.write in kept.read_text()

    kept.chmod(0o644)
    refused = stranger("whoami")
    assert refused.exit_code == 1
    assert "Others can read" in refused.stderr


def test_watching_survives_a_cut_and_a_restart_without_gap_or_double(behind: Desk, relay: Relay, world: World) -> None:
    product = world.product
    gate = product.witness.call("gate")
    with contextlib.ExitStack() as held:
        held.enter_context(product.witness.held("gate"))
        (run,) = behind.submit("for i in 1 2 3; do echo said $i; done\n" + gate + "for i in 4 5 6; do echo said $i; done")
        with behind.at_terminal("watch", str(run)) as terminal:
            terminal.until("said 3")
            assert f"run {run} · shell · running" in terminal.text  # the line at the bottom, alive
            relay.is_closed = True
            relay.cut()
            terminal.until("the connection is lost; trying again")
            relay.is_closed = False
            web = product.service("daphne")
            os.kill(web, signal.SIGKILL)
            wait_for(lambda: product.service("daphne") != web, "another web server", 60)
            held.close()
            assert terminal.ended(90) == 0, terminal.text
    assert re.findall(r"said (\d)", terminal.text) == list("123456")
    assert f"run {run} succeeded" in terminal.text


def test_ctrl_c_leaves_a_run_at_work(desk: Desk, world: World) -> None:
    with world.product.witness.held("long"):
        (run,) = desk.submit("echo begun\n" + world.product.witness.call("long"))
        with desk.at_terminal("watch", str(run)) as terminal:
            terminal.until("begun")
            terminal.type("\x03")
            assert terminal.ended() == 130, terminal.text
        assert f"Run {run} goes on: asynccode watch {run} shows more, asynccode cancel {run} stops it." in terminal.text
        assert world.product.run(run)["status"] == "running"
        assert f"run {run}: stopping" in desk.ok("cancel", str(run))
        canceled = desk("watch", str(run))
    assert canceled.exit_code == 1
    assert f"run {run} canceled" in canceled.stdout


def test_several_runs_are_a_table_that_ends_with_them(desk: Desk) -> None:
    with desk.at_terminal("submit", "echo x > x.txt", "--agent", "shell", "--attempts", "2", "--watch") as terminal:
        assert terminal.ended() == 0, terminal.text
    rows = re.findall(r"^(\d+) +shell(?: #2)? +succeeded +0:\d\d +1 file, \+1 −0", terminal.text, re.MULTILINE)
    assert len(set(rows)) == 2, terminal.text


def test_a_difference_is_shown_in_colors_and_nothing_in_it_is_obeyed(desk: Desk) -> None:
    desk.ok("submit", r"printf '\033]0;evil\007\033[2Jx\342\200\256y\n' > odd.txt", "--agent", "shell", "--watch")
    run = re.findall(r"\d+", desk.ok("list", "--limit", "1").split("\t")[-1])[0]
    with desk.at_terminal("diff", run) as terminal:
        assert terminal.ended() == 0, terminal.text
    assert b"\x1b[32m+\\x1b]0;evil\\x07\\x1b[2JxU+202Ey\x1b[0m" in terminal.raw
    assert b"\x1b]" not in terminal.raw
