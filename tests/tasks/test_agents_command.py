"""`manage.py agents`: what there is, and installing it."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from agents.packages import PACKAGES, Package
from tasks.models import AgentModel, AgentSetting, Credential, Run, RunStatus
from tests.installed import bring_node
from tests.npm_registry import PROGRAM, Registry

pytestmark = pytest.mark.django_db
DEMO = Package("claude", "demo-agent", "1.2.3", "demo", 1)


@pytest.fixture(autouse=True)
def data(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host without agents, where claude and codex are packages of our own registry, and there are no others."""
    folder = Path(tempfile.mkdtemp(prefix="asynccode-tests-", dir="/var/tmp"))
    folder.chmod(0o711)
    settings.DATA = folder
    settings.ANTHROPIC_API_KEY = settings.CLAUDE_CODE_OAUTH_TOKEN = settings.OPENAI_API_KEY = settings.GEMINI_API_KEY = ""
    (folder / "agents").mkdir(0o755)
    bring_node(folder / "agents")
    for name in [*PACKAGES]:
        monkeypatch.delitem(PACKAGES, name)
    monkeypatch.setitem(PACKAGES, "claude", DEMO)
    monkeypatch.setitem(PACKAGES, "codex", Package("codex", "other-agent", "4.5.6", "other", 1))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry()
    registry.add("demo-agent", "1.2.3", {"cli.js": PROGRAM}, bin={"demo": "cli.js"})
    registry.add("other-agent", "4.5.6", {"cli.js": "console.log('4.5.6')"}, bin={"other": "cli.js"})
    monkeypatch.setenv("npm_config_registry", registry.url)
    yield registry
    registry.close()


def agents(*words: str) -> list[str]:
    said = io.StringIO()
    call_command("agents", *words, stdout=said)
    return said.getvalue().splitlines()


def listed(name: str) -> list[str]:
    """The cells of an agent's line."""
    return next(cells for line in agents("list") if (cells := [cell.strip() for cell in line.split("  ") if cell.strip()])[0] == name)


def test_a_fresh_host_has_none_of_them(data: Path) -> None:
    assert agents("list")[0].split() == ["AGENT", "VERSION", "STATE", "SIZE", "KEY", "MODELS"]
    assert listed("claude")[:5] == ["claude", "1.2.3", "not installed", "(1 MB)", "none for all"]
    assert listed("shell") == ["shell", "–", "built in", "–", "needs none", "–"]


def test_the_list_says_whose_keys_there_are_for_all(settings: Any, alice: Any) -> None:
    settings.ANTHROPIC_API_KEY = "sk-of-the-environment"
    Credential.objects.create(owner=None, provider="openai", secret_encrypted=b"-")
    Credential.objects.create(owner=alice, provider="gemini", secret_encrypted=b"-")
    assert listed("claude")[4] == "anthropic (environment)"
    assert listed("codex")[4] == "openai (site)"
    assert "sk-of-the-environment" not in "\n".join(agents("list"))


def test_the_list_shows_what_operators_chose() -> None:
    AgentModel.objects.create(agent="claude", name="claude-next")
    AgentSetting.objects.create(agent="codex", is_on=False)
    assert listed("claude")[5] == "claude-next"
    assert listed("codex")[2] == "not installed, off"


def test_one_is_installed_by_name(registry: Registry) -> None:
    assert agents("install", "claude") == ["claude 1.2.3 is installed."]
    assert agents("install", "claude") == ["claude 1.2.3 was installed already."]
    assert listed("claude")[2] == "installed"
    assert listed("codex")[2] == "not installed"


def test_all_are_installed_and_one_that_fails_keeps_no_other_from_it(registry: Registry) -> None:
    del registry.packages["demo-agent"]
    said = io.StringIO()
    with pytest.raises(CommandError, match=r"Claude Code could not be installed\. The npm registry has no demo-agent@1\.2\.3"):
        call_command("agents", "install", stdout=said)
    assert said.getvalue() == "codex 4.5.6 is installed.\n"


def test_a_broken_one_is_said_and_installed_anew(registry: Registry, data: Path) -> None:
    agents("install", "claude")
    (data / "agents/claude/1.2.3/node_modules/demo-agent/cli.js").write_text("process.exit(7)")
    assert listed("claude")[2] == "broken"
    assert agents("list")[-1].startswith("Broken: demo 1.2.3 does not work on this machine (exit code 7).")
    assert agents("install", "claude") == ["claude 1.2.3 was broken, and is installed anew."]
    assert listed("claude")[2] == "installed"


def test_old_versions_are_removed_and_it_says_so(registry: Registry, data: Path) -> None:
    (data / "agents/claude/1.0.0").mkdir(parents=True)
    assert agents("install", "claude")[-1] == "claude 1.0.0 was removed: no version of asynccode here uses it any more."
    assert not (data / "agents/claude/1.0.0").exists()


def test_an_agent_that_is_not_there_is_said() -> None:
    with pytest.raises(CommandError, match=r"no agent 'shell' to install\. There are: claude, codex\."):
        agents("install", "shell")


def test_who_waits_for_it_goes_on(registry: Registry, make_run: Any) -> None:
    run = make_run(agent="claude", status=RunStatus.QUEUED, not_before=timezone.now() + timezone.timedelta(minutes=5))
    agents("install", "claude")
    assert Run.objects.get(pk=run.pk).not_before is None
