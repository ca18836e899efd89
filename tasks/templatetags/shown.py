"""What templates show: untrusted text, figures, icons, and what every page's header says."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.db.models import Count, Q
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks.models import ACTIVE, Run, RunStatus, User
from tasks.web import shown

register = template.Library()


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
def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


@register.simple_tag
def icon(name: str) -> SafeString:
    """A decoration; what it means must stand beside it or in a label."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>', static("icons.svg"), name)


@register.simple_tag
def activity(user: User) -> dict[str, Any]:
    """How many of the user's runs are running and queued."""
    return Run.objects.visible_to(user).aggregate(
        running=Count("pk", filter=Q(status__in=ACTIVE)), queued=Count("pk", filter=Q(status=RunStatus.QUEUED))
    )


@register.simple_tag
def places_for_repos(user: User) -> str:
    """What a user may give as a repository's place."""
    return "https URL or local path" if user.is_operator and settings.LOCAL_REPO_ROOTS else "https URL"
