"""How an agent is started in a terminal of one's own: its pinned program knows these words, and takes a prompt after them."""

from __future__ import annotations

import re

import pytest

from agents.packages import PACKAGES
from agents.registry import ADAPTERS
from tests.installed import Sandboxed, installed

# What its help says of the prompt: an argument of the program, or the value of the last option.
PROMPT = {
    "claude": r"Usage: claude \[options\] \[command\] \[prompt\]",
    "codex": r"Usage: codex \[OPTIONS\] \[PROMPT\]",
    "gemini": r"--prompt-interactive +Execute the provided prompt and continue in interactive mode +\[string\]",
    "opencode": r"--prompt +prompt to use +\[string\]",
    "copilot": r"--interactive <prompt>",
    "qwen": r"--prompt-interactive +Execute the provided prompt and continue in interactive mode +\[string\]",
    "cline": r"Usage: cline \[options\] \[command\] \[prompt\]",
}


@pytest.mark.parametrize("name", [name for name, adapter in ADAPTERS.items() if adapter.package])
def test_the_pinned_program_takes_a_prompt_by_hand(name: str) -> None:
    words, package = ADAPTERS[name].by_hand, PACKAGES[ADAPTERS[name].package]
    assert words[0] == package.program
    code, said = Sandboxed(installed(name))(f"{package.name}/{package.version}/bin/{package.program}", ["--help"])
    assert code == 0
    assert re.search(PROMPT[name], said), said
    for option in (word for word in words[1:] if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", said), said


def test_a_script_has_nothing_to_go_on_with() -> None:
    assert ADAPTERS["shell"].by_hand == ()
