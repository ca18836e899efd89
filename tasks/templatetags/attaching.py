"""What templates say of attachments."""

from __future__ import annotations

from django import template

from tasks.attachments import MOST_BYTES, MOST_FILES, PICTURES
from tasks.models import Attachment

register = template.Library()


@register.filter
def is_picture(attachment: Attachment) -> bool:
    return attachment.content_type in PICTURES


@register.simple_tag
def attach_limits() -> dict[str, int]:
    """How many files a prompt may have, and how many bytes each."""
    return {"files": MOST_FILES, "bytes": MOST_BYTES}
