"""A turn's rows as the supervisor's TurnSpec. The same rows give the same spec, so handing it over twice is safe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.conf import settings

from agents import registry
from agents.adapters.base import McpServer, TurnRequest
from sandboxes.base import ARTIFACTS, WORKSPACE, Checkout, SandboxSpec, Step, TurnSpec
from sandboxes.e2b import network
from tasks.git import shipments
from tasks.models import AgentSetting, Mode, Phase, RepoMcpServer, Run, Sandbox, Task, Turn
from tasks.running import attachments, backends, model_access, prepared, templates, transcripts

SETUP_SCRIPT = "/home/agent/.asynccode/setup.sh"
RESTORED_PATCH = "/run/asynccode/restore.patch"
# As a checkout puts a patch on: by an index of its own, so that the files are as the attributes of its tree want them.
_PUT_ON = """
export GIT_INDEX_FILE=.git/index.patched
cp .git/index "$GIT_INDEX_FILE"
git apply --cached --binary --whitespace=nowarn --allow-empty "$1"
tree=$(git write-tree)
cp .git/index "$GIT_INDEX_FILE"
git read-tree --reset -u "$tree"
rm "$GIT_INDEX_FILE"
"""
TRANSCRIPT = "/home/agent/.asynccode/transcript.md"

# Said to every agent alike; that nothing was changed is looked at afterwards (ending.finish_turn).
INSTRUCTIONS: dict[str, str] = {
    Mode.ASK: "This is a question. Read files and run commands as you need, but change, create and delete nothing in the workspace: "
    "whatever you change there is thrown away. Answer in Markdown.",
    Mode.PLAN: "Make a plan for what follows. Read files and run commands as you need, but change, create and delete nothing in the "
    "workspace: whatever you change there is thrown away. Your last message must be the whole plan, in Markdown, as numbered steps that "
    "name files; it will be read and approved by a person before you carry it out.",
}


def sandbox(run: Run, row: Sandbox) -> SandboxSpec:
    """What the sandbox of this row is made of. One elsewhere gets a copy of what the mirror has of the base commit."""
    made = model_access.fitted(run, row, prepared.spec(run, row))
    if row.backend == "local" or row.ref:
        return made
    return replace(made, mirror=shipments.ship(run.task.repo.mirror_path, run.task.base_commit))


def told(run: Run, row: Sandbox) -> dict[str, Any]:
    """What its row says besides what its backend says of it: in `record` where the model's key is, and `notice`."""
    way = model_access.way(run, row)
    found: dict[str, Any] = {"record": {"keys": way.keys} if way else {}}
    if row.backend != "local":
        made = model_access.fitted(run, row, backends.spec(run))
        said = network.sentences(made.network, made.headers)
        found["notice"] = " ".join([way.notice, *said] if way and way.notice else said)
    return found


def build(run: Run, turn: Turn, sandbox: Sandbox, *, restores_patch: bool) -> TurnSpec:
    """`restores_patch`: an earlier patch of this run lies at RESTORED_PATCH and belongs into the fresh workspace. It comes after a setup
    script that gets secrets, since an agent wrote it and nobody has looked at it; and in a check, which is to find what everybody's
    runs begin with."""
    task, repo = run.task, run.task.repo
    adapter = registry.adapter(run.agent)
    given = attachments.paths(turn)
    conversation = transcripts.conversation(turn, run.generation)
    transcript = transcripts.text(turn) if adapter.providers and not conversation else ""
    request = TurnRequest(
        prompt=turn.prompt,
        model=run.model,
        mode=turn.mode,
        resume=conversation,
        transcript=TRANSCRIPT if transcript else "",
        instructions=INSTRUCTIONS.get(turn.mode, ""),
        attachments=list(given[turn.number]),
        options=run.options | {"extra_args": _extra_args(run.agent)},
        mcp_servers=_mcp_servers(task),
    )
    here = {"ASYNCCODE_ARTIFACTS": f"{WORKSPACE}/{ARTIFACTS}"}
    here |= {"ASYNCCODE_ATTACHMENTS": attachments.FOLDER} if any(given.values()) else {}
    variables = [v for v in repo.variables.all() if not (task.is_restricted and v.is_secret)]
    plain = {v.name: v.value for v in variables if not v.is_secret and v.phase == Phase.AGENT}
    steps = []
    if repo.setup_script and sandbox.prepared_id is None and not sandbox.parse_state.get("is_set_up"):
        steps.append(
            Step(
                name="setup",
                argv=["/bin/bash", "-e", SETUP_SCRIPT],
                files={SETUP_SCRIPT: repo.setup_script.replace("\r\n", "\n")},
                env={v.name: v.value for v in variables},
                total_s=settings.SETUP_TIMEOUT_S,
            )
        )
    comes_later = restores_patch and bool(steps) and (task.is_trial or any(variable.is_secret for variable in variables))
    if comes_later:
        steps.append(Step(name="patch", argv=["/bin/bash", "-e", "-c", _PUT_ON, "patch", RESTORED_PATCH], total_s=settings.SETUP_TIMEOUT_S))
    way = model_access.way(run, sandbox)
    launch = adapter.launch(request, model_access.access(way, turn, run.generation))
    steps.append(
        Step(
            name="agent",
            argv=launch.argv if run.backend == "local" else templates.by_name(launch.argv),
            files={**launch.files, **({TRANSCRIPT: transcript} if transcript else {})},
            env={**plain, **here, **(way.environment if way else {}), **launch.env},
            stdin=bool(launch.input),
            input=launch.input,
            ends_on=launch.ends_on,
            goes_on=launch.goes_on,
            acp=launch.acp,
            total_s=settings.AGENT_TIMEOUT_S,
            silence_s=settings.AGENT_SILENCE_S,
        )
    )
    return TurnSpec(
        turn=turn.number,
        generation=run.generation,
        checkout=Checkout(
            base=task.base_commit,
            branch=run.branch,
            remote=repo.source,
            patch=RESTORED_PATCH if restores_patch and not comes_later else None,
        ),
        steps=steps,
        max_file_bytes=settings.MAX_PATCH_FILE_MB * 2**20,
        max_patch_bytes=settings.MAX_PATCH_MB * 2**20,
        checkpoint_s=settings.CHECKPOINT_S,
    )


def _mcp_servers(task: Task) -> list[McpServer]:
    """Those of the repository; none of a restricted task, since addresses, arguments and variables of servers may all hold secrets."""
    if task.is_restricted:
        return []
    return [McpServer(s.name, s.url, s.command, s.env) for s in RepoMcpServer.objects.filter(repo=task.repo)]


def _extra_args(agent: str) -> list[str]:
    """What operators add to this agent's arguments."""
    return AgentSetting.objects.filter(agent=agent).values_list("extra_args", flat=True).first() or []
