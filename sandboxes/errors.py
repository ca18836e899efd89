"""What can go wrong with a sandbox; every message is a sentence a user can act on."""


class SandboxError(Exception):
    """The sandbox or its backend refused or failed."""


class SandboxGone(SandboxError):
    """The sandbox does not exist or its supervisor does not answer any more."""


class SandboxUnavailable(SandboxError):
    """No sandbox can be made here at all (no user namespaces, no bwrap, no python3 inside)."""


class FileMissing(SandboxError):
    """The file asked for is not in the sandbox."""


class SandboxLimited(SandboxError):
    """The backend takes no new sandbox just now: too many, or too quickly. `retry_after_s` is its own word, if it said one."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AccountRefused(SandboxError):
    """The backend does not take our account: its key is wrong, revoked or without rights."""


class HeadersRefused(SandboxError):
    """The backend was asked to add headers on the way out, and refused; without them it may go through."""


class PreparedGone(SandboxError):
    """The prepared environment asked for does not exist any more."""
