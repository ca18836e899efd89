"""Runs every probe, outside and then inside."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import dataclass

from sandboxes.local import bwrap
from sandboxes.local.accounts import run_as
from tests.security.probes import PROBES, Probe
from tests.security.scene import ATTEMPTS, Scene, scene


@dataclass(frozen=True)
class Result:
    """`outside` and `inside` say what happened there; a probe counts only when it worked outside."""

    probe: Probe
    is_shown: bool
    outside: str
    is_refused: bool
    inside: str

    @property
    def is_good(self) -> bool:
        return self.is_shown and self.is_refused


async def run_all() -> list[Result]:
    async with scene() as stage:
        program = stage.data / "attempts.py"
        program.write_bytes(ATTEMPTS.read_bytes())
        program.chmod(0o644)
        return [await run(stage, probe) for probe in PROBES]


async def run(stage: Scene, probe: Probe) -> Result:
    is_shown, outside = await asyncio.to_thread(_outside, stage, probe)
    is_refused, inside = await _inside(stage, probe)
    return Result(probe, is_shown, outside, is_refused, inside)


def _outside(stage: Scene, probe: Probe) -> tuple[bool, str]:
    targets = (probe.outside or probe.inside)(stage)
    argv = [bwrap.python(), "-I", str(stage.data / "attempts.py"), probe.control or probe.attempt, json.dumps(targets)]
    account = None if probe.as_root else stage.backend.account
    done = subprocess.run(argv, cwd="/", env={"PATH": bwrap.PATH}, capture_output=True, text=True, timeout=60, **run_as(account))
    said = done.stdout.strip().splitlines()[-1:] or done.stderr.strip().splitlines()[-1:] or ["said nothing"]
    if said != ["WORKED"]:
        return False, f"could not be shown: {said[0]}"
    who = "as root" if stage.is_root and probe.as_root else "same account"
    return True, f"works ({who}{': ' + probe.instead if probe.instead else ''})"


async def _inside(stage: Scene, probe: Probe) -> tuple[bool, str]:
    if not await stage.is_whole():
        return False, "could not run: the sandbox is gone"
    records, said = await stage.attempt(probe.attempt, probe.inside(stage))
    if not await stage.is_whole():
        return False, "WORKED: the sandbox did not survive it"
    if said == "WORKED" or (probe.worked and await probe.worked(stage)):
        return False, "WORKED"
    if said.startswith("REFUSED "):
        return True, said.removeprefix("REFUSED ")
    end = records[-1]
    if end.get("reason") == "memory":
        return True, "the watchdog ended it"
    errors = [record["line"] for record in records if record["kind"] == "err"]
    return False, f"could not run: {(errors or [end])[-1]}"
