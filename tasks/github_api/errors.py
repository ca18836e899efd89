"""Why GitHub did not do what it was asked for, and what to do about it."""

from __future__ import annotations

from datetime import datetime

from tasks.errors import AppError


class GitHubError(AppError):
    """The root of what can come of asking GitHub."""

    code = "github"


class TokenRefused(GitHubError):
    """GitHub does not take the token (any more)."""

    code = "token_refused"  # as git says it too


class NotFoundOnGitHub(GitHubError):
    """It is not there, or this token may not see it: GitHub does not tell which."""

    code = "github_not_found"


class PermissionMissing(GitHubError):
    """The token, or its owner, may not do that; `needed` is what GitHub says would do, or ""."""

    code = "github_permission_missing"

    def __init__(self, message: str, *, needed: str = "") -> None:
        super().__init__(message)
        self.needed = needed


class RateLimited(GitHubError):
    """GitHub wants to hear nothing from this token until `until`."""

    code = "github_rate_limited"

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class Unavailable(GitHubError):
    """GitHub cannot be reached, is broken, or says what makes no sense. Trying again may help."""

    code = "github_unavailable"


class Refused(GitHubError):
    """GitHub understood, and will not do it; the message has its words."""

    code = "github_refused"


class PullExists(Refused):
    """There is an open pull request of that branch already."""

    code = "github_pull_exists"
