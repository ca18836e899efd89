"""What can go wrong with a sandbox; every message is a sentence a user can act on."""


class SandboxError(Exception):
    """The sandbox or its backend refused or failed."""


class SandboxGone(SandboxError):
    """The sandbox does not exist or its supervisor does not answer any more."""


class SandboxUnavailable(SandboxError):
    """No sandbox can be made here at all (no user namespaces, no bwrap, no python3 inside)."""


class FileMissing(SandboxError):
    """The file asked for is not in the sandbox."""
