"""Why a host took no push, or let somebody read nothing: what git and GitHub print, as one sentence each that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.errors import AppError, RepoUnavailable
from tasks.git.commands import GitFailed
from tasks.git.remotes import Remote
from tasks.git.sources import Source

_MAX_QUOTED = 300


class PublishRefused(AppError):
    """The host did not take it. `reason` is one of those below, for programs."""

    code = "publish_refused"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ReadRefused(RepoUnavailable):
    """The host does not let this account read. `reason` is token, sign_in, gone, or one of those below."""

    code = "read_refused"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class TokenRefused(PublishRefused):
    """The token is wrong, expired or revoked: whose it is has to sign in again."""

    code = "token_refused"


class BranchMoved(AppError):
    """The branch holds what we did not put there, or is gone. Nothing was overwritten."""

    code = "branch_moved"


# What a server says with a 403 ("remote: …"), in GitHub's words. The first that fits counts, the last always does.
_DENIED = {
    "archived": (
        r"archived so it is read-only",
        "{name} is archived at {where}, so nothing can be pushed to it. Somebody who owns it can unarchive it there.",
    ),
    "sso": (
        r"SAML SSO|single sign-on",
        "The organization that owns {name} asks for single sign-on. Authorize your token for it at {where}, then try again.",
    ),
    "ip_refused": (
        r"IP allow list",
        "The organization that owns {name} takes connections from listed addresses only. Ask its owners to add this server's.",
    ),
    "rate_limited": (
        r"rate limit|too many requests|abuse detection",
        "{where} says that too many requests were made. Try again in a few minutes.",
    ),
    "denied": (
        r"",
        "{where} does not let this account write to {name}. Ask its owners for write access, or use a token that has it.",
    ),
}
# What it says to a push. `{quoted}` is the group of that name here or below.
_DECLINED = {
    "workflow": (
        r"refusing to allow .* to (create or )?update workflow `?(?P<quoted>[^`\n]*)`? ?without",
        "{where} lets this token change no workflow files ({quoted}). Sign in again and allow workflows, or use a token with the "
        "workflow scope.",
    ),
    "secrets": (
        r"GITHUB PUSH PROTECTION[\s\S]*(cannot contain secrets|secret)",
        "{where} found a secret in these changes and took nothing.{quoted} Have it removed in a follow-up, or allow it there.",
    ),
    "too_large": (
        r"error: GH001|exceeds GitHub's file size limit",
        "{where} takes no files over 100 MB.{quoted} Have it removed in a follow-up, or kept in Git LFS.",
    ),
    "protected": (
        r"error: GH006|protected branch hook declined",
        "The branch {branch} is protected at {where} and takes no pushes from this account. Publish under another branch name.",
    ),
    "private_email": (
        r"error: GH007|email privacy restrictions",
        "{where} keeps the author's email address private and took nothing. Use the account's noreply address, or allow it in the "
        "email settings at {where}.",
    ),
    "lfs_missing": (
        r"error: GH008|unknown Git LFS object",
        "These changes name Git LFS files that {where} does not have. Have the files committed as they are, or upload them first.",
    ),
    "rules": (
        r"error: GH013|repository rule violations",
        "The rules of {name} refuse these changes.{quoted} Ask those who keep its rules at {where}.",
    ),
    "name_taken": (
        r"directory file conflict|'refs/heads/[^']*' exists; cannot create|non-empty directory .* blocking reference",
        "{name} has a branch whose name is in the way of {branch}: where there is a, there cannot be a/b. Publish under another name.",
    ),
}
# More of what was said, where it helps: which file, which secret, which rule.
_DETAILS = {
    "secrets": r"—— (?P<quoted>[^—\n]+?) ——[\s\S]*?path: (?P<place>[^\n]+)",
    "too_large": r"File (?P<quoted>.+? is [\d.]+ MB)",
    "rules": r"remote: *- (?P<quoted>[^\n]+)",
}
# What it says to who wants to read.
_TAKEN_BACK = "{where} does not take your token any more. Connect GitHub again in Settings, under GitHub."
_SIGN_IN = "{where} shows {name} to nobody without a sign-in: it is private, or not there. Check the address."
_NOT_FOUND = (
    "{name} is not to be found at {where}: deleted, renamed, or not for your account to see. Check the address, or ask its owners "
    "for access."
)
_UNREADABLE = "{where} does not let your account read {name}. Ask its owners for access, or use a token that has it."
# git's own words; a server's lines do not count here.
_NO_SIGN_IN = r"could not read Username|Authentication failed|returned error: 401"
_GONE = r"returned error: 404|repository '.*' not found"
_MOVED = r"\(stale info\)|\((fetch first|non-fast-forward)\)|failed to update ref|reference already exists|but expected|remote ref updated"


@contextmanager
def explained(remote: Remote, branch: str) -> Iterator[None]:
    """GitFailed from within, as what it means for publishing `branch`; what cannot be told better stays as it is."""
    try:
        yield
    except GitFailed as error:
        better = refusal(error.stderr, remote, branch)
        if better is None:
            raise
        raise better from error


def refusal(stderr: str, remote: Remote, branch: str) -> AppError | None:
    """The error for what a push (or what comes before it) printed; None when there is no better one than git's."""
    names = {"where": remote.source.where, "name": remote.source.name, "branch": branch}
    own = "\n".join(line for line in stderr.splitlines() if not line.startswith("remote:"))
    if re.search(_NO_SIGN_IN, own):
        if remote.token:
            return TokenRefused("{where} does not take your token any more. Connect your account again.".format(**names), "token")
        return PublishRefused("{where} asks for a sign-in. Connect your account first.".format(**names), "sign_in")
    if re.search(_GONE, own):
        sentence = (
            "{name} is not to be found at {where}: deleted, renamed, or not for this account to see. Check its address and your access."
        )
        return PublishRefused(sentence.format(**names), "gone")
    for reason, (pattern, sentence) in (_DENIED if "returned error: 403" in own else _DECLINED).items():
        if found := re.search(pattern, stderr, re.IGNORECASE):
            quoted = (found.groupdict().get("quoted") or "")[:_MAX_QUOTED] or _details(reason, stderr)
            return PublishRefused(sentence.format(**names, quoted=quoted), reason)
    if re.search(_MOVED, stderr):
        return BranchMoved(
            f"Somebody else has just pushed to {branch}, and nothing was overwritten. Look at it, then publish under another name."
        )
    if found := re.search(r"\[remote rejected\].*\(([^()\n]*)\)", own):
        return PublishRefused(f"{remote.source.where} took no push to {branch}: {found[1][:_MAX_QUOTED]}.", "rejected")
    return None


def reading_refusal(stderr: str, source: Source, *, is_signed_in: bool) -> ReadRefused | None:
    """The error for what a fetch from GitHub printed; None where nobody was refused anything."""
    names = {"where": source.where, "name": source.name}
    own = "\n".join(line for line in stderr.splitlines() if not line.startswith("remote:"))
    if re.search(_NO_SIGN_IN, own):
        reason, sentence = ("token", _TAKEN_BACK) if is_signed_in else ("sign_in", _SIGN_IN)
    elif re.search(_GONE, own):
        reason, sentence = "gone", _NOT_FOUND
    elif "returned error: 403" in own:
        said = {
            reason: sentence for reason, (pattern, sentence) in _DENIED.items() if pattern and re.search(pattern, stderr, re.IGNORECASE)
        }
        reason, sentence = next(iter(said.items()), ("denied", _UNREADABLE))
    else:
        return None
    return ReadRefused(sentence.format(**names), reason)


def _details(reason: str, stderr: str) -> str:
    found = re.search(_DETAILS[reason], stderr) if reason in _DETAILS else None
    if found is None:
        return ""
    place = found.groupdict().get("place")
    return f" It says: {found['quoted'].strip(' .')[:_MAX_QUOTED]}{f' in {place.strip()[:_MAX_QUOTED]}' if place else ''}."
