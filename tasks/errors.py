"""What a person asked for and cannot have. Every message is a sentence they can act on; `code` is for programs."""

from __future__ import annotations


class AppError(Exception):
    """The root of all errors that pages, commands and the API show as they are."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(AppError):
    """A value that cannot be accepted; `field` names it where a form or the API can point at it."""

    code = "invalid"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class SourceRefused(InvalidInput):
    """A URL or path that no repository may be read from."""

    code = "source_refused"

    def __init__(self, message: str) -> None:
        super().__init__(message, field="source")


class RepoUnavailable(AppError):
    """The repository cannot be read now: gone, locked away, too slow, damaged. Trying again may help."""

    code = "repo_unavailable"


class EmptyRepository(RepoUnavailable):
    """The repository has no commit yet."""

    code = "empty_repository"


class BranchMissing(InvalidInput):
    """The repository has no branch of that name."""

    code = "branch_missing"

    def __init__(self, message: str) -> None:
        super().__init__(message, field="base_branch")


class NotAllowed(AppError):
    """This user may not do that."""

    code = "not_allowed"


class Conflict(AppError):
    """It cannot be done in the state things are in now."""

    code = "conflict"
