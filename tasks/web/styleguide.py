"""The parts that pages are made of, for those who make pages: each with its states, its names and when to use it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from tasks.models import RunStatus
from tasks.web.access import Request

STYLES = settings.BASE_DIR / "static" / "css"


@dataclass(frozen=True)
class Part:
    """`key` names the specimen in templates/tasks/specimens.html, `names` the selectors that make it."""

    key: str
    title: str
    use: str
    names: tuple[str, ...]

    @property
    def specimen(self) -> str:
        return f"tasks/specimens.html#{self.key}"


PARTS = (
    Part(
        "words",
        "Words",
        "One h1 a page. Secondary words are quiet, never smaller than that. What a thing belongs to stands above its title.",
        (".eyebrow", ".quiet", "h1 .quiet", ".label", ".figures", ".hidden", "code", "kbd"),
    ),
    Part(
        "untrusted",
        "Words of others",
        "Titles, paths and output of agents go through the filters plain and name: what hides or reorders is marked.",
        (".mark", ".value"),
    ),
    Part(
        "states",
        "States",
        "A dot says a run's status by colour and by form, and always has the word beside it. Only what runs moves.",
        (".status", ".dot[data-status]", ".winner"),
    ),
    Part("figures", "Figures", "Facts of a thing, in digits of one width. – for nothing, − for minus.", ("dl > div", ".added", ".removed")),
    Part(
        "buttons",
        "Buttons",
        "One primary button a view: what most people want next. Danger is for what cannot be had back, and asks first. "
        "A link that looks like a button goes somewhere; a button does something.",
        ("button", ".button", ".primary", ".danger", ".actions", "[aria-busy]"),
    ),
    Part(
        "chips",
        "Chips and pickers",
        "A choice of the composer. A picker is a chip that opens a list of options under it; Escape or a click elsewhere closes it.",
        (".chips", ".chip", ".picker", ".popover", ".group", ".option", ".at-github", ".stacked", ".run-pair"),
    ),
    Part(
        "fields",
        "Fields",
        "A label above, help under it, an error under the field and named by aria-describedby. What was typed stays.",
        (".field", ".options", ".option", ".line", ".stack", ".errorlist", "[aria-invalid]"),
    ),
    Part(
        "rows",
        "Lists",
        "A row is two lines: what it is, and where and when; at its end what came of it. A tag is one run of it, a pull its pull request, "
        "a check-chip what the repository's check says, in a check-line with the way to do it again.",
        (
            ".heading",
            ".head",
            ".filters",
            ".row",
            ".title",
            ".runs",
            ".tag",
            ".state",
            ".pull[data-state]",
            ".check-chip",
            ".check-line",
            ".check-again",
            ".outcome",
            ".more",
        ),
    ),
    Part("empty", "Nothing there", "What would stand here, and one next step. One click selects a sample.", (".empty", ".sample")),
    Part(
        "notices",
        "Notices",
        "A notice says what has just happened, a failure what is the matter and what to do, beside the thing it is about.",
        (".notice[data-tone]", ".failure", ".messages", ".dismiss"),
    ),
    Part("progress", "Progress", "For all that takes more than a second and knows how far it is.", ("progress",)),
    Part(
        "questions",
        "Questions",
        "Before something is lost: what will happen, the verb on the button, and the way back. A page without scripts, else in #dialog.",
        ("dialog", ".question-box", "[data-close]"),
    ),
    Part(
        "corner",
        "Problems",
        "What went wrong with no place of its own, in the window's corner; asynccode.say(sentence).",
        (".problem",),
    ),
    Part("keys", "Keys", "A shortcut in words. [data-key] on a link, button or field gives it one.", ("kbd", ".keys", "[data-key]")),
)


@dataclass(frozen=True)
class Token:
    name: str
    value: str

    @property
    def is_colour(self) -> bool:
        return self.value.startswith("light-dark(#")


@cache
def tokens() -> tuple[Token, ...]:
    """The custom properties of tokens.css, in their order."""
    css = re.sub(r"/\*.*?\*/", "", (STYLES / "tokens.css").read_text(), flags=re.S)
    return tuple(Token(*found) for found in re.findall(r"(--[a-z0-9-]+):\s*([^;]+);", css))


@cache
def icons() -> tuple[str, ...]:
    return tuple(re.findall(r'<symbol id="([^"]+)"', (STYLES.parent / "icons.svg").read_text()))


@login_required
@require_GET
def styleguide(request: Request) -> HttpResponse:
    if not request.user.is_operator:
        raise Http404
    context = {"parts": PARTS, "tokens": tokens(), "icons": icons(), "schemes": ("light", "dark"), "statuses": RunStatus.choices}
    return render(request, "tasks/styleguide.html", context)
