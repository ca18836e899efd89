"""What somebody asks for in the text of an issue, a pull request or a comment: `@NAME [agent…] do this`.

The texts are anybody's. What their readers at GitHub do not see (HTML comments, invisible and reordering characters) is taken out
before anything else is looked at, so that nobody asks, or is quoted, for what they cannot have read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from django.conf import settings

from tasks.choices import AgentChoice, parse_agent
from tasks.github_api import apps

MOST_TEXT = 65_536  # characters of a text at GitHub
MOST_AGENTS = 10
SCRIPTED = "shell"  # the agent whose prompt is a script
_DEFAULT = "asynccode"

_HTML_COMMENT = re.compile(r"<!--(?:.*?-->|.*\Z)", re.DOTALL)
# Controls, formats (zero-width, bidirectional, tags), private and unassigned planes, fillers that look like nothing, variation selectors.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_TICKS = re.compile(r"`+")
_WORD = re.compile(r"[ \t]+([^\s]+)")
_SCRIPT = re.compile(r"\s*(`{3,}+|~{3,}+)[^\n`~]*+\n(?P<script>.*?)\n?[ \t]*\1[`~]*\s*", re.DOTALL)


@dataclass(frozen=True)
class Asked:
    """What is asked for: the agents that were named, in their order, and the text without name and agents."""

    agents: tuple[AgentChoice, ...]
    text: str


def name() -> str:
    """The NAME by which we are asked."""
    app = None if settings.GITHUB_MENTION else apps.current()
    return settings.GITHUB_MENTION or (app.slug if app else _DEFAULT)


def clean(text: str) -> str:
    """A text as people see it, cut to what GitHub takes: no HTML comments, nothing invisible, line breaks as \\n."""
    text = text[:MOST_TEXT].replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _HTML_COMMENT.sub("", _INVISIBLE.sub("", text)).strip()


def is_in(text: str, name: str) -> bool:
    """Whether the text mentions @name where it is meant: outside of code and quotes."""
    return _find(clean(text), name) is not None


def read(text: str, name: str, agents: Collection[str]) -> Asked | None:
    """What the text asks of @name, where `agents` are the names of those there are; None when it does not mention it.

    Words right after the name that are agents (`codex`, `codex:gpt-5`) choose them; `shell` only if a block of code follows, which
    then is the script.
    """
    text = clean(text)
    found = _find(text, name)
    if found is None:
        return None
    before, after = text[: found.start()], text[found.end() :]
    chosen: dict[str, AgentChoice] = {}
    end = 0
    while len(chosen) < MOST_AGENTS and (word := _WORD.match(after, end)):
        choice = parse_agent(word[1].rstrip(",;:"))
        agent = choice.agent.lower()
        if agent not in agents or (agent == SCRIPTED and not _SCRIPT.fullmatch(after[word.end() :])):
            break
        chosen[f"{agent}:{choice.model}"] = AgentChoice(agent, choice.model)
        end = word.end()
    rest = after[end:]
    script = _SCRIPT.fullmatch(rest) if [one.agent for one in chosen.values()] == [SCRIPTED] else None
    said = script["script"] if script else f"{before.rstrip()}\n{rest.lstrip(' ,:;')}" if before.strip() else rest.lstrip(" \t,:;")
    return Asked(tuple(chosen.values()), said.strip("\n") if script else said.strip())


def _find(text: str, name: str) -> re.Match[str] | None:
    """Where a cleaned text mentions @name: as a word of its own, in any case, in no code and no quote."""
    pattern = re.compile(rf"(?<![\w@/.`-])@{re.escape(name)}(?![\w/@-]|\.\w)", re.IGNORECASE)
    hidden = "".join(_without_code_and_quotes(text))
    return pattern.search(hidden)


def _without_code_and_quotes(text: str) -> Iterator[str]:
    """The text with spaces in the place of fenced code, quotes and code within a line; as long as it was."""
    fence, paragraph = "", ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        is_quote = line.lstrip().startswith(">")
        if fence:
            yield _blank(line)
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
        elif mark or is_quote:
            yield from _inline(paragraph)
            paragraph = ""
            yield _blank(line)
            fence = mark[1] if mark else ""
        elif not line.strip():
            yield from _inline(paragraph)
            paragraph = ""
            yield line
        else:
            paragraph += line
    yield from _inline(paragraph)


def _inline(paragraph: str) -> Iterator[str]:
    """A paragraph with spaces in the place of what stands between equally many backticks."""
    runs = list(_TICKS.finditer(paragraph))
    closing: dict[int, list[int]] = {}
    for run in reversed(runs):
        closing.setdefault(len(run[0]), []).append(run.start())
    at = 0
    for run in runs:
        starts = closing[len(run[0])]
        while starts and starts[-1] <= run.start():
            starts.pop()
        if run.start() < at or not starts:
            continue
        end = starts[-1] + len(run[0])
        yield paragraph[at : run.start()]
        yield _blank(paragraph[run.start() : end])
        at = end
    yield paragraph[at:]


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
