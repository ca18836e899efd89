"""The agents' programs at the versions this was tried with; `agents/install.py` puts them into the data folder.

A pin moves together with the golden recordings (`tests/agents/golden`): see docs/adding-an-agent.md.
"""

from __future__ import annotations

from dataclasses import dataclass

INSIDE = "/opt/agents"  # where a sandbox sees what is installed


@dataclass(frozen=True)
class Package:
    """A package of the npm registry. Its folder is NAME/VERSION; `program` is the name below its node_modules/.bin."""

    name: str
    npm: str
    version: str
    program: str
    needs_node: bool = False

    @property
    def path(self) -> str:
        """The program, as a sandbox sees it: with its version, so that an upgrade changes nothing for those that run."""
        return f"{INSIDE}/{self.name}/{self.version}/node_modules/.bin/{self.program}"


PACKAGES = {
    package.name: package
    for package in (
        Package("claude", "@anthropic-ai/claude-code", "2.1.331", "claude"),
        Package("codex", "@openai/codex", "0.169.0", "codex", needs_node=True),
        Package("gemini", "@google/gemini-cli", "0.61.0", "gemini", needs_node=True),
        Package("opencode", "opencode-ai", "1.18.33", "opencode"),
        Package("copilot", "@github/copilot", "1.0.102", "copilot", needs_node=True),
        Package("qwen", "@qwen-code/qwen-code", "0.24.4", "qwen", needs_node=True),
    )
}
