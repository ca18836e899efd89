"""The agents of the Agent Client Protocol, a profile each: see docs/adding-an-agent.md for how one is added."""

from __future__ import annotations

import json
from typing import Any

from agents.adapters.acp import WORDS, Profile, bare
from agents.adapters.base import ErrorClass, Model, ModelAccess, Provider, TurnRequest
from agents.adapters.native import FILES, HOME, mapping, mcp_json

# --- OpenCode -------------------------------------------------------------------------------------------------------------

OPENCODE_FILE = f"{FILES}/opencode.json"
VERSIONS = {Provider.ANTHROPIC: "v1", Provider.OPENAI: "v1", Provider.GEMINI: "v1beta"}


def _opencode_config(turn: TurnRequest, access: ModelAccess) -> dict[str, str]:
    """One provider with one model and nothing else: else it would fall back to hosted ones."""
    provider = Provider(access.provider)
    named, model = WORDS[provider], bare(turn.model)
    config: dict[str, Any] = {
        "autoupdate": False,
        "share": "disabled",
        "enabled_providers": [named],
        "model": f"{named}/{model}",
        "small_model": f"{named}/{model}",
        "provider": {
            named: {
                "options": {"baseURL": f"{access.base_url}/{VERSIONS[provider]}", "apiKey": access.token},
                "models": {model: {"name": model}},
            }
        },
        "permission": {"*": "allow", "edit": "allow" if turn.mode == "code" else "deny", "question": "deny"},
    }
    return {OPENCODE_FILE: json.dumps(config)}


OPENCODE = Profile(
    name="opencode",
    label="OpenCode",
    description="The open-source agent. Works with models of Anthropic, OpenAI and Google.",
    models=(
        Model("anthropic/claude-opus-5-5", "Claude Opus 5.5"),
        Model("openai/gpt-6.1-sol", "GPT-6.1 Sol"),
        Model("google/gemini-2.5-pro", "Gemini 2.5 Pro"),
    ),
    providers=(Provider.ANTHROPIC, Provider.OPENAI, Provider.GEMINI),
    by_hand=("opencode", "--prompt"),
    argv=lambda turn: ["acp"],
    env=lambda turn, access: {
        "OPENCODE_CONFIG": OPENCODE_FILE,
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    },
    files=_opencode_config,
    options=lambda turn: {"effort": str(turn.options["effort"])} if turn.options.get("effort") else {},
    errors={ErrorClass.MODEL: r"^model: "},
    efforts=("low", "medium", "high"),
)

# --- GitHub Copilot -------------------------------------------------------------------------------------------------------

COPILOT_MCP_FILE = f"{FILES}/copilot-mcp.json"


def _copilot_mcp(turn: TurnRequest, access: ModelAccess) -> dict[str, str]:
    """The servers that are commands: of those that the session names it starts none (github/copilot-cli#3889)."""
    commands = mcp_json([server for server in turn.mcp_servers if not server.url], "url")
    servers = {name: {"type": "local", **server, "tools": ["*"]} for name, server in commands.items()}
    return {COPILOT_MCP_FILE: json.dumps({"mcpServers": servers})} if servers else {}


COPILOT = Profile(
    name="copilot",
    label="GitHub Copilot",
    description="GitHub's agent, with a model of your own key instead of a subscription.",
    models=(Model("gpt-6.1-sol", "GPT-6.1 Sol"),),
    providers=(Provider.OPENAI,),
    by_hand=("copilot", "--interactive"),
    argv=lambda turn: [
        "--acp",
        *(["--reasoning-effort", str(turn.options["effort"])] if turn.options.get("effort") else []),
        *([] if turn.mode == "code" else ["--deny-tool", "write"]),
        *(["--additional-mcp-config", f"@{COPILOT_MCP_FILE}"] if any(not server.url for server in turn.mcp_servers) else []),
    ],
    env=lambda turn, access: {
        "COPILOT_OFFLINE": "true",
        "COPILOT_AUTO_UPDATE": "false",
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_WIRE_API": "responses",
        "COPILOT_PROVIDER_BASE_URL": f"{access.base_url}/v1",
        "COPILOT_PROVIDER_API_KEY": access.token,
        "COPILOT_MODEL": turn.model,
    },
    files=_copilot_mcp,
    options=lambda turn: {"allow_all": "on"},
    output=r"(?P<output>.*?)\n?<shellId: \d+ completed with exit code (?P<code>-?\d{1,9})>\s*",
    errors={ErrorClass.CONTEXT: "prompt as too long"},
    failure=r"^Error: ",
    aside=r"Info: .*",
    again=r"Retrying",
    efforts=("low", "medium", "high", "xhigh"),
)

# --- Qwen Code ------------------------------------------------------------------------------------------------------------

QWEN_SETTINGS = {f"{HOME}/.qwen/settings.json": json.dumps({"privacy": {"usageStatisticsEnabled": False}})}

QWEN = Profile(
    name="qwen",
    label="Qwen Code",
    description="Alibaba's agent, with any model behind OpenAI's Chat Completions.",
    models=(Model("gpt-6.1-sol", "GPT-6.1 Sol"),),
    providers=(Provider.OPENAI,),
    by_hand=("qwen", "--prompt-interactive"),
    argv=lambda turn: [
        *("--acp", "--auth-type", "openai"),
        *(["--max-session-turns", str(turn.options["max_turns"])] if turn.options.get("max_turns") else []),
        *([] if turn.mode == "code" else ["--exclude-tools", "write_file,edit,notebook_edit"]),
    ],
    env=lambda turn, access: {
        "OPENAI_API_KEY": access.token,
        "OPENAI_BASE_URL": f"{access.base_url}/v1",
        "OPENAI_MODEL": turn.model,
    },
    files=lambda turn, access: QWEN_SETTINGS,
    mode=lambda turn: "yolo",
    usage=lambda answer, update: mapping(mapping(update.get("_meta")).get("usage")),
    output=r"Command: .*?\nDirectory: [^\n]*\nOutput: (?P<output>.*)\nError: .*\nExit Code: (?P<code>-?\d{1,9})\n.*",
    quiet=("qwen/", "craft/"),
    can_limit_turns=True,
)

# --- Cline ----------------------------------------------------------------------------------------------------------------

CLINE_FILE = f"{HOME}/.cline/data/settings/providers.json"
CLINE_MCP_FILE = f"{HOME}/.cline/data/settings/cline_mcp_settings.json"


def _cline_files(turn: TurnRequest, access: ModelAccess) -> dict[str, str]:
    settings = {"provider": "openai-compatible", "apiKey": access.token, "model": turn.model, "baseUrl": f"{access.base_url}/v1"}
    provider = {"settings": settings, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}
    servers = mcp_json(turn.mcp_servers, "url")  # it looks at none of those that the session names
    for server in servers.values():
        server |= {"type": "streamableHttp"} if "url" in server else {}
    return {
        CLINE_FILE: json.dumps({"version": 1, "modes": {}, "providers": {"openai-compatible": provider}}),
        CLINE_MCP_FILE: json.dumps({"mcpServers": servers}),  # also without any: an earlier turn may have had some
    }


CLINE = Profile(
    name="cline",
    label="Cline",
    description="The open-source agent, with any model behind OpenAI's Chat Completions.",
    models=(Model("gpt-6.1-sol", "GPT-6.1 Sol"),),
    providers=(Provider.OPENAI,),
    by_hand=("cline", "--tui", "--auto-approve", "false"),
    argv=lambda turn: ["--acp"],
    env=lambda turn, access: {"CLINE_PROVIDER": "openai-compatible", "CLINE_API_KEY": access.token},
    files=_cline_files,
    mode=lambda turn: "act" if turn.mode == "code" else "plan",  # in which it may run commands, and has no tool to write with
    options=lambda turn: {"auto_approve": True},
    sets_model=True,
    output=r"\[Command exited with code (?P<code>\d{1,9})\]\n(?P<output>.*)",
)

PROFILES = (OPENCODE, COPILOT, QWEN, CLINE)
"""In the order in which they are shown."""
