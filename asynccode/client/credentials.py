"""Servers and their tokens: $XDG_CONFIG_HOME/asynccode/credentials, which only its owner can read."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asynccode.client.failures import Failure, Usage

LOCAL = "http://localhost:8000"  # where `make run` serves


def path() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".config") / "asynccode" / "credentials"


class Credentials:
    """`default` is the server that is meant when none is named; `tokens`: server → token."""

    def __init__(self, default: str, tokens: dict[str, str]) -> None:
        self.default, self.tokens = default, tokens

    @classmethod
    def load(cls) -> Credentials:
        try:
            with path().open(encoding="utf-8") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise Failure(f"Others can read {path()}. Revoke its tokens, or close it: chmod 600 {path()}")
                data: Any = json.load(file)
            return cls(str(data["default"]), {str(server): str(token) for server, token in data["tokens"].items()})
        except FileNotFoundError:
            return cls("", {})
        except OSError as error:
            raise Failure(f"{path()} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failure(f"{path()} is damaged. Delete it and sign in again.") from error

    def keep(self, server: str, token: str) -> None:
        self.default, self.tokens[server] = server, token
        self._save()

    def forget(self, server: str) -> bool:
        """False when there was nothing to forget."""
        if self.tokens.pop(server, None) is None:
            return False
        if self.default == server:
            self.default = next(iter(self.tokens), "")
        self._save()
        return True

    def _save(self) -> None:
        """All or nothing; a new file, since the modes of an old one are not to be trusted."""
        try:
            path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=path().parent)  # 0600 from the beginning
            with open(number, "w", encoding="utf-8") as file:
                json.dump({"default": self.default, "tokens": self.tokens}, file, indent=1)
            os.replace(name, path())
        except OSError as error:
            raise Failure(f"{path()} cannot be written: {error.strerror}.") from error


def server_of(text: str) -> str:
    """A server's address as it is kept: scheme, host, port and the path it lives below, without a slash at the end."""
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or "@" in parts.netloc or parts.query or parts.fragment:
        raise Usage(f"{text} is no server's address. It should look like https://asynccode.example.org.")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
