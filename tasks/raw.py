"""Bytes that an agent or a repository wrote, served so that they can do nothing: never sniffed, and in a sandbox of the browser's."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils.http import content_disposition_header

from tasks import attachments

LARGEST_PICTURE = 8 * 1024 * 1024  # bytes
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif")
LOCKED = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
}


def raw(content: bytes, name: str, *, is_download: bool) -> HttpResponse:
    """Only what is a picture for sure is shown as one; all else is plain text."""
    kind = picture(content) or "text/plain; charset=utf-8"
    return HttpResponse(content, content_type=kind, headers=LOCKED | {"Content-Disposition": _disposition(is_download, name)})


def download(content: bytes, name: str) -> HttpResponse:
    """Bytes to save, whatever they are."""
    return HttpResponse(content, content_type=attachments.UNKNOWN, headers=LOCKED | {"Content-Disposition": _disposition(True, name)})


def picture(content: bytes) -> str:
    """The type of a picture, by how it begins; "" for anything else."""
    if len(content) > LARGEST_PICTURE:
        return ""
    kind = "image/avif" if content[4:12] in (b"ftypavif", b"ftypavis") else attachments.type_of("", content)
    return kind if kind in {*attachments.PICTURES, "image/avif"} else ""


def may_be_picture(path: str, size: int) -> bool:
    """Whether to try to show it, by its name."""
    return 0 < size <= LARGEST_PICTURE and path.lower().endswith(PICTURE_ENDINGS)


def _disposition(is_download: bool, name: str) -> str:
    name = name.encode(errors="replace").decode()  # bytes that are no UTF-8 cannot be in a header
    return content_disposition_header(is_download, name) or "inline"
