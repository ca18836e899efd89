"""The words of a pull request before anybody has edited them, and who is named in its commit."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.urls import reverse

from agents.registry import ADAPTERS
from tasks.choices import MOST_PROMPT
from tasks.git.clones import Author
from tasks.models import GitHubAccount, Publication, Run, RunStatus, Turn, TurnKind, User

MOST_TITLE = 250
MOST_BODY = 60_000  # characters; GitHub takes 65,536
_MOST_QUOTED = 10_000

# The co-authors of commits, by agent.
_CO_AUTHORS = {
    "claude": Author("Claude", "noreply@anthropic.com"),
    "codex": Author("Codex", "noreply@openai.com"),
    "gemini": Author("Gemini", "noreply@google.com"),
    "copilot": Author("Copilot", "198982749+Copilot@users.noreply.github.com"),
    "opencode": Author("OpenCode", "noreply@opencode.ai"),
    "qwen": Author("Qwen-Coder", "qwen-coder@alibabacloud.com"),
    "cline": Author("Cline", "noreply@cline.bot"),
}


def co_authors(run: Run) -> list[Author]:
    """The agent; nobody for the shell, which does what the user wrote."""
    return [_CO_AUTHORS[run.agent]] if run.agent in _CO_AUTHORS else []


def author(user: User) -> Author:
    """The user as GitHub knows them, at the address that does not give away their own."""
    account = GitHubAccount.objects.filter(user=user).first()
    if account is None:
        return Author(user.display_name or user.get_username(), user.email or f"{user.pk}@asynccode.invalid")
    host = urlsplit(settings.GITHUB_URL).hostname
    return Author(user.display_name or account.login, f"{account.github_id}+{account.login}@users.noreply.{host}")


def title(run: Run) -> str:
    return run.task.title[:MOST_TITLE]


def message(run: Run, title: str, turn: Turn | None = None) -> str:
    """Of the commit: the pull request's title, or, of one that comes after others, the first line of the follow-up `turn`."""
    first = turn.prompt.strip().partition("\n")[0][:MOST_TITLE] if turn else ""
    return f"{first or title}\n\nFrom the run at {link(run)}\n"  # a line that git does not take for a trailer


def body(run: Run, template: str = "") -> str:
    """What the agent said last, the repository's own `template` if it has one, the prompt, and a link to the run."""
    answered = run.turns.filter(status=RunStatus.SUCCEEDED).exclude(kind=TurnKind.REVERT).exclude(answer="")
    summary = answered.order_by("number").values_list("answer", flat=True).last() or ""
    adapter = ADAPTERS.get(run.agent)
    by = f"{adapter.label if adapter else run.agent}{f' ({run.model})' if run.model else ''}"
    prompts = Turn.objects.filter(run=run, kind=TurnKind.PROMPT, number__gt=1, status=RunStatus.SUCCEEDED).order_by("number")
    asked = [run.task.prompt, *prompts.values_list("prompt", flat=True)]
    parts = [
        summary.strip()[: MOST_BODY // 3],
        template.strip()[: MOST_BODY // 3],
        f"<details><summary>Prompt</summary>\n\n{fenced(_shortened(chr(10).join(asked)))}\n\n</details>",
        f"Made by {by}: {link(run)}",
    ]
    return "\n\n".join(part for part in parts if part)


def conflicts(publication: Publication) -> str:
    """The follow-up that has an agent settle them, which can reach no remote."""
    shown = [f"{one['path']}\n{fenced(one['text'])}" for one in publication.conflicts]
    return (
        f"The branch {publication.base} has moved on since you began, and in the files below your changes conflict with what is new there. "
        f"Between the markers, `{publication.base}` is what the branch has now and `these changes` is what you have.\n\n"
        "Edit these files in the workspace so that each holds both: what is new on the branch, and what you want to change. Leave no "
        "conflict markers behind. Change no other file for this: all others go together by themselves. Do not fetch, merge or rebase.\n\n"
        + _shortened("\n\n".join(shown), MOST_PROMPT // 2)
    )


def link(run: Run) -> str:
    return f"{settings.BASE_URL}{reverse('run', args=[run.pk])}"


def _shortened(text: str, most: int = _MOST_QUOTED) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def fenced(text: str) -> str:
    """As a block of code, whatever is in it: nothing in a prompt is a mention or a reference on GitHub."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text.strip()}\n{fence}"
