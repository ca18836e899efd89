"""Reading of the environment, strictly: a value that cannot be understood is refused with a sentence."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class Asked:
    """A variable that was read. `value` is what it comes to, where that is a number, yes or no, or one of few words; None for all that
    may be secret."""

    is_given: bool
    value: str | None = None


ASKED: dict[str, Asked] = {}  # name → what was found, in the order in which they were read


def text(name: str, default: str = "") -> str:
    given = os.environ.get(name, "").strip()
    ASKED[name] = Asked(bool(given))
    return given or default


def _known(name: str, value: object) -> None:
    ASKED[name] = replace(ASKED[name], value=str(value))


def number(name: str, default: int, *, least: int = 0) -> int:
    raw = text(name)
    if raw and (not raw.isascii() or not raw.isdigit() or int(raw) < least):
        raise ImproperlyConfigured(f"{name} must be a whole number of at least {least}, not {raw!r}.")
    found = int(raw) if raw else default
    _known(name, found)
    return found


def noted_port(folder: Path) -> int | None:
    """Where the pages are while `manage.py up` runs for this data folder: it may have been told another port than we were."""
    try:
        return int((folder / "port").read_text())
    except (OSError, ValueError):  # nothing runs, the folder is not ours, or it is being written
        return None


def flag(name: str, default: bool = False) -> bool:
    raw = text(name).lower()
    if raw not in ("", "0", "false", "no", "off", "1", "true", "yes", "on"):
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {raw!r}.")
    found = raw in ("1", "true", "yes", "on") if raw else default
    _known(name, found)
    return found


def choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    raw = text(name, default)
    if raw not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(c for c in choices if c)}, not {raw!r}.")
    _known(name, raw)
    return raw


def names(name: str, separator: str = ",") -> list[str]:
    return [part.strip() for part in text(name).split(separator) if part.strip()]


def networks(name: str, default: str = "") -> list[IPv4Network | IPv6Network]:
    """Comma-separated addresses and networks; one address is a network of one."""
    found = []
    for raw in names(name) or default.split():
        try:
            found.append(ip_network(raw))
        except ValueError:
            sentence = f"{name} must be addresses and networks such as 10.0.0.5, 10.0.0.0/24 or fd00::/8, comma-separated, not {raw!r}."
            raise ImproperlyConfigured(sentence) from None
    return found


def data_folder() -> Path:
    """ASYNCCODE_DATA, else /var/lib/asynccode for root, else the XDG data folder."""
    if raw := text("ASYNCCODE_DATA"):
        return Path(raw).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/asynccode")
    return Path(text("XDG_DATA_HOME", str(Path.home() / ".local/share"))) / "asynccode"


def database(url: str, *, pool: int = 0) -> dict[str, object]:
    """Django's settings for postgres://user:password@host:port/name?option=value, with a pool of at most `pool` connections."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured("DATABASE_URL must start with postgres:// (asynccode needs PostgreSQL).")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if pool:
        # Seconds: who waits this long for a connection is told that there is none; and a database that was away for long is
        # tried anew at short intervals, not at ever longer ones.
        options["pool"] = {"min_size": 1, "max_size": pool, "timeout": 10, "reconnect_timeout": 5}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", None) or unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": options,
        # A connection of the pool that broke while nobody used it (the database was started anew) is not handed out.
        "CONN_HEALTH_CHECKS": bool(pool),
    }


def mail(url: str) -> dict[str, Any]:
    """Django's settings for smtp://user:password@host:port (STARTTLS, unless ?tls=0) or smtps://… (TLS from the start)."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or options.keys() - {"tls"} or options.get("tls", "1") not in ("0", "1"):
        raise ImproperlyConfigured("EMAIL_URL must look like smtp://user:password@host:587, smtp://host:25?tls=0 or smtps://host:465.")
    is_implicit = parts.scheme == "smtps"
    return {
        "HOST": parts.hostname,
        "PORT": parts.port or (465 if is_implicit else 587),
        "HOST_USER": unquote(parts.username or ""),
        "HOST_PASSWORD": unquote(parts.password or ""),
        "USE_SSL": is_implicit,
        "USE_TLS": not is_implicit and options.get("tls", "1") == "1",
    }


def kept_secret(data: Path, name: str) -> str:
    """A random secret kept in the data folder, made by whoever asks first."""
    path = data / "keys" / name
    if not path.exists():
        try:
            if not data.exists():
                data.mkdir(parents=True, mode=0o711, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            sentence = f"{error.filename} cannot be made: {error.strerror}. Set ASYNCCODE_DATA to a folder that may be written to."
            raise ImproperlyConfigured(sentence) from None
        draft = path.with_name(f"{name}.{os.getpid()}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        try:
            os.link(draft, path)  # fails when another process was first, whose secret then counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
