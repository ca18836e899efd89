"""What a sandbox sees as its system, read-only: this machine's programs, or a root file system in a folder.

Of this machine /usr and a little of /etc, no more. Of a folder all but what a sandbox has of its own, taken entry by
entry: bubblewrap makes no mount points in folders that are read-only. A link of the folder's becomes a link in the
sandbox, and leads where it leads there; the host follows none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from sandboxes.errors import SandboxUnavailable

_USR_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Of the host's /etc only what programs under /usr need to work and anybody may read; no private keys, no accounts.
_ETC_OF_HOST = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "magic.mime",
    "maven",
    "mime.types",
    "os-release",
    "perl",
    "pki/ca-trust",
    "pki/java",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
)

_OWN = {"proc", "sys", "dev", "tmp", "run", "workspace", "lost+found"}
# Folders with something of the sandbox's own in them (and of no use: password hashes, accounts).
_SHARED = {
    "etc": {"shadow", "shadow-", "gshadow", "gshadow-", "passwd-", "group-", "mtab"},
    "home": {"agent"},
    "opt": {"agents"},
    "var": {"tmp", "run"},
}


def arguments(rootfs: Path | None, etc: Mapping[str, int]) -> Iterator[str]:
    """bwrap's arguments for the system; `etc` are descriptors of the files that are made for /etc."""
    yield from _of_folder(rootfs, set(etc)) if rootfs else _of_host()
    for name, descriptor in etc.items():
        yield from ("--perms", "0444", "--file", str(descriptor), f"/etc/{name}")


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name. Raises SandboxUnavailable when it is a link or no folder."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise SandboxUnavailable(f"{folder} is a link or a file; a root file system for sandboxes must have a real folder there.")
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise SandboxUnavailable(f"The folder {folder} of a root file system cannot be read: {error.strerror}.") from error


def shown_entries(rootfs: Path) -> list[os.DirEntry[str]]:
    """The top of a root file system, without what a sandbox has of its own."""
    return [entry for entry in entries(rootfs) if entry.name not in _OWN]


def _of_host() -> Iterator[str]:
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _USR_MERGED:
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():  # a system from before /usr held it all
            yield from ("--ro-bind", str(path), str(path))
    for path in _etc_of_host():
        yield from ("--ro-bind", str(path), str(path))


def _etc_of_host() -> Iterator[Path]:
    yield from (path for name in _ETC_OF_HOST if (path := Path("/etc", name)).exists())
    yield from sorted(path for path in Path("/etc").glob("java*") if path.is_dir())


def _of_folder(rootfs: Path, etc: set[str]) -> Iterator[str]:
    for entry in shown_entries(rootfs):
        if entry.name in _SHARED:
            hidden = _SHARED[entry.name] | (etc if entry.name == "etc" else set())
            yield from ("--dir", f"/{entry.name}")
            for below in entries(rootfs / entry.name):
                if below.name not in hidden:
                    yield from _shown(below, f"/{entry.name}/{below.name}")
        else:
            yield from _shown(entry, f"/{entry.name}")


def _shown(entry: os.DirEntry[str], where: str) -> Iterator[str]:
    """A folder or file as it is, a link as a link; pipes, sockets and devices not at all."""
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        yield from ("--symlink", os.readlink(entry.path), where)
    elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        yield from ("--ro-bind", entry.path, where)
