"""What templates show: untrusted text, figures, icons, and what every page's header says."""

from __future__ import annotations

from functools import cache
from typing import Any

from django import template
from django.conf import settings
from django.contrib.messages.storage.base import Message
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tasks.github_api import credentials
from tasks.models import Theme, User
from tasks.web import shown
from tasks.web.activity import activity_of

register = template.Library()
PAPER: dict[str, str] = {Theme.LIGHT: "#fbfbfa", Theme.DARK: "#131316"}  # as --paper in static/css/tokens.css


@register.filter
def plain(text: object) -> SafeString:
    """Text that somebody else wrote."""
    return shown.text_html(str(text))


@register.filter
def name(text: object) -> SafeString:
    """A path, title or other name that somebody else wrote, on one line."""
    return shown.name_html(str(text))


@register.filter
def bare(text: object) -> str:
    """Such text where no markup can be: a window's title."""
    return shown.bare(str(text))


@register.filter
def duration(seconds: float | None) -> str:
    return shown.duration(seconds)


@register.filter
def took(seconds: float | None) -> str:
    return shown.took(seconds)


@register.filter
def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


@register.simple_tag
@cache  # there are a hundred of them on a page, and some tens in all
def icon(name: str) -> SafeString:
    """A decoration; what it means must stand beside it or in a label."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>', static("icons.svg"), name)


@register.simple_tag
def activity(user: User) -> dict[str, Any]:
    """How many of the user's runs are running and queued."""
    return activity_of(user)


@register.simple_tag
def github_is_refused(user: User) -> bool:
    """Whether the user is to be asked to connect GitHub again."""
    return credentials.is_refused(user)


@register.simple_tag
def theme_tags(theme: str) -> SafeString:
    """What the browser's own parts are painted in: its bar on a phone, scrollbars, the page before the styles are there."""
    schemes = [theme] if theme in (Theme.LIGHT, Theme.DARK) else [Theme.LIGHT, Theme.DARK]
    bars = format_html_join(
        "",
        '<meta name="theme-color" content="{}"{}>',
        (
            (PAPER[scheme], SafeString() if len(schemes) == 1 else format_html(' media="(prefers-color-scheme: {})"', scheme))
            for scheme in schemes
        ),
    )
    return format_html('<meta name="color-scheme" content="{}">{}', " ".join(schemes), bars)


@register.simple_tag
def undo_of(message: Message) -> str:
    """The address that takes back what a message tells, given as its `extra_tags` ("undo:/tasks/7/restore"); "" for none."""
    return (message.extra_tags or "").removeprefix("undo:") if (message.extra_tags or "").startswith("undo:/") else ""


@register.simple_tag
def places_for_repos(user: User) -> str:
    """What a user may give as a repository's place."""
    return "https URL or local path" if user.is_operator and settings.LOCAL_REPO_ROOTS else "https URL"
