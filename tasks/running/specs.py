"""A turn's rows as the supervisor's TurnSpec. The same rows give the same spec, so handing it over twice is safe."""

from __future__ import annotations

from django.conf import settings

from agents import registry
from agents.adapters.base import ModelAccess, TurnRequest
from sandboxes.base import Checkout, Step, TurnSpec
from tasks.models import Phase, Run, Sandbox, Turn
from tasks.running import attachments

SETUP_SCRIPT = "/home/agent/.asynccode/setup.sh"
RESTORED_PATCH = "/run/asynccode/restore.patch"


def build(run: Run, turn: Turn, sandbox: Sandbox, *, restores_patch: bool) -> TurnSpec:
    """`restores_patch`: an earlier patch of this run lies at RESTORED_PATCH and belongs into the fresh workspace."""
    task, repo = run.task, run.task.repo
    adapter = registry.adapter(run.agent)
    given = attachments.paths(turn)
    request = TurnRequest(
        prompt=turn.prompt,
        model=run.model,
        mode=task.mode,
        resume=_conversation(turn),
        attachments=list(given[turn.number]),
        options=run.options,
    )
    here = {"ASYNCCODE_ATTACHMENTS": attachments.FOLDER} if any(given.values()) else {}
    plain = {v.name: v.value for v in repo.variables.all() if not v.is_secret and v.phase == Phase.AGENT}
    steps = []
    if repo.setup_script and not sandbox.parse_state.get("is_set_up"):
        steps.append(
            Step(
                name="setup",
                argv=["/bin/bash", "-e", SETUP_SCRIPT],
                files={SETUP_SCRIPT: repo.setup_script.replace("\r\n", "\n")},
                env={v.name: v.value for v in repo.variables.all()},
                total_s=settings.SETUP_TIMEOUT_S,
            )
        )
    launch = adapter.launch(request, ModelAccess())
    steps.append(
        Step(
            name="agent",
            argv=launch.argv,
            files=launch.files,
            env=plain | here | launch.env,
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
            patch=RESTORED_PATCH if restores_patch else None,
        ),
        steps=steps,
        max_file_bytes=settings.MAX_PATCH_FILE_MB * 2**20,
        max_patch_bytes=settings.MAX_PATCH_MB * 2**20,
        checkpoint_s=settings.CHECKPOINT_S,
    )


def _conversation(turn: Turn) -> str:
    earlier = Turn.objects.filter(run=turn.run_id, number__lt=turn.number).exclude(conversation="").order_by("-number").first()
    return turn.conversation or (earlier.conversation if earlier else "")
