"""Payloads as GitHub sends them, cut to what is about one pull request, and their signatures."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

REPOSITORY = "octo/hello"
HEAD, OTHER = "a" * 40, "b" * 40
SECRET = "between us"


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def about(repository: str = REPOSITORY, **more: Any) -> dict[str, Any]:
    return {"repository": {"id": 1, "full_name": repository, "private": True}, "sender": {"login": "octocat"}, **more}


def pull_request(action: str = "opened", *, at: str, number: int = 7, head: str = HEAD, base: str = "main", **more: Any) -> dict[str, Any]:
    """`at`: the time of day at which GitHub's record of it was changed, on one day in 2026."""
    said = {
        "number": number,
        "state": "open",
        "draft": False,
        "merged": False,
        "merged_at": None,
        "mergeable": None,
        "mergeable_state": "unknown",
        "updated_at": f"2026-11-20T{at}Z",
        "head": {"ref": "asynccode/1", "sha": head},
        "base": {"ref": base, "sha": OTHER},
        "title": "x" * 10_000,
    }
    return about(action=action, number=number, pull_request=said | more)


def closed(*, at: str, merged: bool = False, **more: Any) -> dict[str, Any]:
    merged_at = f"2026-11-20T{at}Z" if merged else None
    return pull_request("closed", at=at, state="closed", merged=merged, merged_at=merged_at, **more)


def review(state: str, action: str = "submitted", number: int = 7) -> dict[str, Any]:
    return about(action=action, review={"state": state, "body": "…"}, pull_request={"number": number})


def check(of: str, status: str, conclusion: str | None = None, head: str = HEAD) -> dict[str, Any]:
    return about(action=status, **{of: {"head_sha": head, "status": status, "conclusion": conclusion, "pull_requests": []}})
