"""Bytes that somebody or some agent wrote, as operations describe them."""

from __future__ import annotations

from typing import Any


def as_bytes(media_type: str, said: str) -> dict[str, Any]:
    """What an operation answers with: bytes of this type."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {"responses": {200: {"description": said, "content": content}}}
