"""Encryption at rest: values under the first of ENCRYPTION_KEYS, read under any of them."""

from __future__ import annotations

from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from tasks.errors import AppError


@cache
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(text: str) -> bytes:
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(text.encode())


def decrypt(token: bytes | memoryview) -> str:
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(bytes(token)).decode()
    except InvalidToken:
        raise AppError("A stored secret cannot be read: ENCRYPTION_KEYS no longer holds the key it was written with.") from None


def is_fresh(token: bytes | memoryview) -> bool:
    """Whether it is written under the first of ENCRYPTION_KEYS."""
    try:
        _fernet((settings.ENCRYPTION_KEYS[0],)).decrypt(bytes(token))
    except InvalidToken:
        return False
    return True


def rotate(token: bytes | memoryview) -> bytes | None:
    """The same text under the first of ENCRYPTION_KEYS; None when none of them can read it."""
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).rotate(bytes(token))
    except InvalidToken:
        return None
