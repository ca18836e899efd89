"""Where repositories may come from: https URLs, and paths on this machine for operators. All else is refused.

`parse_source` looks at the text (and, for a path, at the disk), never at the network, so a page can call it.
`check_host` resolves the name and must be called before every contact; what it returns is what git is pinned to.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sandboxes.egress import is_public
from tasks.errors import InvalidInput, RepoUnavailable, SourceRefused

MAX_LENGTH = 2000
MAX_BRANCH_BYTES = 200  # a ref is a file name in places, and our own branches add to it

Resolver = Callable[..., Sequence[Any]]  # socket.getaddrinfo, or what a test puts in its place

_PRIVATE_NAMES = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home", "corp", "arpa")

_CREDENTIALS = (
    "The URL contains a user name or token. Remove it: tokens belong into your account's credentials, "
    "where they are kept encrypted and never reach a sandbox."
)
_SCHEMES = {
    "ssh": "ssh addresses are not supported. Use the repository's https URL.",
    "git": "git:// is neither encrypted nor supported. Use the repository's https URL.",
    "git+ssh": "ssh addresses are not supported. Use the repository's https URL.",
    "file": "file:// URLs are not accepted. Operators can give the plain path of a repository on this machine.",
}


@dataclass(frozen=True)
class Source:
    """One place a repository is read from. `url` is what git is given: a normalised URL, or an absolute path.

    `host` and `port` are empty and 0 for a path. `is_private_host` says that the host is one of ALLOW_PRIVATE_HOSTS.
    `folders` are those of a local repository that git must take for safe although another user may own them.
    """

    url: str
    name: str
    is_local: bool = False
    host: str = ""
    port: int = 0
    is_private_host: bool = False
    folders: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The place as a sentence names it."""
        return self.url if self.is_local else self.host


def parse_source(text: str, *, allow_local: bool, roots: Sequence[Path] = (), allow_private: frozenset[str] = frozenset()) -> Source:
    """The source a user's text names; SourceRefused, with a sentence, for everything that is not allowed.

    `allow_private` holds `host` or `host:port` entries that may be private addresses and speak plain http.
    A path must lie, after all links are followed, within one of `roots`.
    """
    text = text.strip(" ")
    if not text:
        raise SourceRefused("Give the repository's https URL.")
    if len(text) > MAX_LENGTH:
        raise SourceRefused(f"This address is longer than {MAX_LENGTH:,} characters.")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" for c in text):
        raise SourceRefused("The address contains control characters or line breaks. Copy it again.")
    if text.startswith("-"):
        raise SourceRefused("The address starts with a dash, so git would take it for an option. Give the repository's https URL.")
    if text.startswith(("/", "~", "./", "../")) or text in (".", ".."):
        return _local(text, allow_local=allow_local, roots=roots)
    if re.match(r"[A-Za-z0-9+.-]*::", text):
        raise SourceRefused(
            "git's remote helpers (`ext::` and the like) can run commands and are not accepted. Use the repository's https URL."
        )
    scheme, colon, _ = text.partition("://")
    if not colon:
        if re.match(r"([^/@\s]+@)?[^/:\s]+:", text):
            raise SourceRefused("ssh addresses (user@host:path) are not supported. Use the repository's https URL.")
        raise SourceRefused("This is not an https URL. It should look like https://github.com/owner/repository.")
    if (sentence := _SCHEMES.get(scheme.lower())) is not None:
        raise SourceRefused(sentence)
    if scheme.lower() not in ("https", "http"):
        raise SourceRefused("Only https URLs are accepted. It should look like https://github.com/owner/repository.")
    return _remote(text, allow_private)


def _remote(text: str, allow_private: frozenset[str]) -> Source:
    if re.search(r"\s", text):
        raise SourceRefused("The URL contains a space. Copy it again, or write the space as %20.")
    if "\\" in text:
        raise SourceRefused("The URL contains a backslash. Write slashes.")
    try:
        parts = urlsplit(text)
        scheme, port = parts.scheme.lower(), parts.port
        host = _host_name(parts.hostname or "")
    except ValueError:
        raise SourceRefused("The URL's host or port is not valid. Copy it again.") from None
    if "@" in parts.netloc:
        raise SourceRefused(_CREDENTIALS)
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise SourceRefused("The URL has a query or fragment (? or #). Give only the repository's address.")
    decoded = unquote(parts.path)
    if any(ord(c) < 32 or ord(c) == 127 for c in decoded) or ".." in decoded.split("/"):
        raise SourceRefused("The URL's path is not valid. Copy it again.")
    folders = [p for p in decoded.split("/") if p]
    if not folders:
        raise SourceRefused("The URL names a host but no repository. It should look like https://github.com/owner/repository.")
    port = port or (443 if scheme == "https" else 80)
    shown = f"[{host}]" if ":" in host else host
    is_private = bool(allow_private & {host, shown, f"{shown}:{port}"})
    if not is_private:
        _check_name(host)
        if scheme == "http":
            raise SourceRefused("Plain http is not encrypted and not accepted. Use https.")
    suffix = "" if port == (443 if scheme == "https" else 80) else f":{port}"
    path = parts.path.rstrip("/")
    name = "/".join(folders[-2:]).removesuffix(".git")
    return Source(url=f"{scheme}://{shown}{suffix}{path}", name=name, host=host, port=port, is_private_host=is_private)


def _host_name(host: str) -> str:
    """Lower case, ASCII, no dot at the end; ValueError when it cannot be a host's name."""
    host = host.rstrip(".").lower()
    if ":" in host and "%" not in host:
        return ipaddress.IPv6Address(host).compressed
    if not host.isascii():
        host = host.encode("idna").decode("ascii").rstrip(".").lower()
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9])?", host) or ".." in host:
        raise ValueError(host)
    return host


def _check_name(host: str) -> None:
    """SourceRefused for names and literal addresses that are private whatever a resolver says."""
    refused = f"{host} is a private or local address. An operator can allow it with ALLOW_PRIVATE_HOSTS."
    last = host.rpartition(".")[2]
    if ":" in host or re.fullmatch(r"\d+|0x[0-9a-f]*", last):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise SourceRefused(f"{host} is not a complete address. Write the host's name.") from None
        if not is_public(str(address)):
            raise SourceRefused(refused)
    elif "." not in host or last in _PRIVATE_NAMES:
        raise SourceRefused(refused)


def check_host(source: Source, *, resolver: Resolver = socket.getaddrinfo) -> list[str]:
    """The addresses of a remote source's host, every one allowed; to be called before each contact.

    SourceRefused when any address is not public (unless the host is in ALLOW_PRIVATE_HOSTS), RepoUnavailable when
    the name has no address.
    """
    try:
        found = resolver(source.host, source.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise RepoUnavailable(f"The host {source.host} cannot be found. Check the address, or try again later.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise RepoUnavailable(f"The host {source.host} has no address. Check the URL, or try again later.")
    if not source.is_private_host and not all(map(is_public, addresses)):
        raise SourceRefused(f"{source.host} resolves to a private or local address. An operator can allow it with ALLOW_PRIVATE_HOSTS.")
    return addresses


# --- paths ------------------------------------------------------------------------------------------------------


def _local(text: str, *, allow_local: bool, roots: Sequence[Path]) -> Source:
    if not allow_local:
        raise SourceRefused("Only operators can use paths on this machine. Give the repository's https URL.")
    if not text.startswith(("/", "~")):
        raise SourceRefused("Give the full path of the repository, starting with / or ~.")
    try:
        return _local_repository(Path(text).expanduser().resolve(), [root.expanduser().resolve() for root in roots])
    except (OSError, RuntimeError, ValueError):
        raise SourceRefused(f"The path {text} cannot be read by the account this server runs as. Check it and its permissions.") from None


def _local_repository(folder: Path, roots: Sequence[Path]) -> Source:
    _require_within(folder, roots)
    if not folder.is_dir():
        raise SourceRefused(f"There is no folder {folder} on this machine.")
    git_dir = _git_dir(folder)
    if git_dir is None:
        raise SourceRefused(f"{folder} is not a git repository. Give the folder that holds its .git, or a bare repository.")
    common = _common_dir(git_dir)
    for part in (git_dir, common, *_object_folders(common)):
        _require_within(part, roots)
    if (common / "shallow").exists():
        raise SourceRefused(f"{folder} is a shallow clone, with part of its history missing. Run `git fetch --unshallow` there first.")
    safe = dict.fromkeys(str(p) for p in (folder, folder / ".git", git_dir, common))
    name = folder.parent.name if folder.name == ".git" else folder.name.removesuffix(".git")
    return Source(url=str(folder), name=name, is_local=True, folders=tuple(safe))


def _require_within(path: Path, roots: Sequence[Path]) -> None:
    if not any(path.is_relative_to(root) for root in roots):
        raise SourceRefused(
            f"{path} is outside the folders that repositories may be read from. An operator can add its folder to LOCAL_REPO_ROOTS."
        )


def _git_dir(folder: Path) -> Path | None:
    """Where the repository's data is: `.git`, what a `.git` file of a linked worktree points at, or the bare folder."""
    dot_git = folder / ".git"
    if dot_git.is_file():
        git_dir = (folder / _lines(dot_git)[0].removeprefix("gitdir:").strip()).resolve()
    elif dot_git.is_dir():
        git_dir = dot_git.resolve()
    else:
        git_dir = folder
    return git_dir if (git_dir / "HEAD").is_file() and (_common_dir(git_dir) / "objects").is_dir() else None


def _common_dir(git_dir: Path) -> Path:
    pointer = git_dir / "commondir"
    return (git_dir / _lines(pointer)[0]).resolve() if pointer.is_file() else git_dir


def _object_folders(common: Path) -> list[Path]:
    """The object folder and those it borrows from (`objects/info/alternates`, any depth), links followed."""
    found: list[Path] = []
    todo = [(common / "objects").resolve()]
    while todo:
        objects = todo.pop()
        if objects in found:
            continue
        found.append(objects)
        alternates = objects / "info" / "alternates"
        if alternates.is_file():
            todo += [(objects / line).resolve() for line in _lines(alternates) if line and not line.startswith("#")]
    return found


def _lines(path: Path) -> list[str]:
    """The lines of a small file that somebody else wrote; at least one."""
    with path.open(errors="surrogateescape") as file:
        return file.read(64 * 1024).split("\n")


# --- branches ---------------------------------------------------------------------------------------------------


def valid_branch(name: str) -> str:
    """The name, when git would accept it as a branch's and nothing could take it for an option; else InvalidInput.

    The rules are those of `git check-ref-format --branch`.
    """

    def refuse(why: str) -> InvalidInput:
        return InvalidInput(f"This cannot be a branch name: {why}.", field="base_branch")

    if not name:
        raise refuse("it is empty")
    if name.startswith("-"):
        raise refuse("it starts with a dash")
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise refuse("it contains control characters")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise refuse("it is not valid Unicode text") from None
    if size > MAX_BRANCH_BYTES:
        raise refuse(f"it is longer than {MAX_BRANCH_BYTES} bytes")
    if found := re.search(r"[ ~^:?*\[\\]", name):
        raise refuse(f"it contains {'a space' if found[0] == ' ' else found[0]}")
    if ".." in name or "@{" in name or "//" in name:
        raise refuse("it contains .., @{ or //")
    if name in ("@", "HEAD"):
        raise refuse(f"{name} has a meaning of its own in git")
    if name.startswith("/") or name.endswith(("/", ".")):
        raise refuse("it starts with a slash, or ends with a slash or a dot")
    if any(part.startswith(".") or part.endswith(".lock") for part in name.split("/")):
        raise refuse("a part of it starts with a dot or ends with .lock")
    return name
