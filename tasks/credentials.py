"""Keys of model providers: stored after a check, write-only, and moved to new encryption keys.

A key and its base URL are one thing: whoever changes one gives both. No message here ever holds a secret.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from agents.adapters.base import Provider
from agents.apis.registry import APIS
from agents.check import Reply, check
from agents.grants import Key
from agents.upstream import Failed
from sandboxes.egress import HostError, PolicyError, PrivateHosts, Target, is_address, is_public, normalize, usable_addresses
from tasks import audit
from tasks.errors import AppError, InvalidInput, NotAllowed
from tasks.models import AuditKind, Credential, CredentialKind, GitHubAccount, GitHubApp, OutgoingWebhook, User, Variable
from tasks.models.credential import PROVIDERS
from tasks.models.encrypted import is_fresh, rotate

LEAST_SECRET, MOST_SECRET = 8, 2000  # characters
MOST_URL = 500  # characters
MOST_SAID = 300  # characters of what a provider says
CHECK_S = 10
SUBSCRIPTION_PREFIX = "sk-ant-oat"  # what `claude setup-token` prints
LABELS = {Provider(name): label for name, label in PROVIDERS}


@sensitive_variables("secret")
def save_credential(
    *, by: User, provider: str, secret: str, base_url: str = "", kind: str = CredentialKind.API_KEY, for_site: bool = False
) -> Credential:
    """The user's key for a provider, or the site's, in place of the one there was; checked first with one cheap call.

    InvalidInput when the provider refuses it, and then nothing is changed. When nothing can be found out now, it is stored, and
    its `problem` says why.
    """
    if for_site and not by.is_operator:
        raise NotAllowed("Only operators keep the site's keys.")
    if provider not in LABELS:
        raise InvalidInput(f"Choose one of: {', '.join(LABELS)}.", field="provider")
    secret = _valid_secret(provider, secret, kind)
    base_url = parse_base_url(base_url)
    new = Credential(owner=None if for_site else by, provider=provider, kind=kind, base_url=base_url)
    new.secret = secret
    said = _check(new)
    if said.is_refused:
        raise InvalidInput(said.problem, field="secret")
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=by.pk)  # the same form, sent twice at the same time
        values = {name: getattr(new, name) for name in ("kind", "secret_encrypted", "hint", "base_url")}
        stored, _ = Credential.objects.update_or_create(
            owner=new.owner, provider=provider, defaults=values | {"problem": said.problem, "checked_at": timezone.now()}
        )
        whose = "site" if for_site else "own"
        audit.record(AuditKind.KEY_SAVED, by=by, subject=stored, provider=provider, whose=whose, host=urlsplit(base_url).hostname)
    return stored


def check_credential(*, credential: Credential, by: User) -> Credential:
    """Ask the provider again, and keep what it said, or why it could not be asked, in `problem`; "" when it takes the key."""
    _check_may(credential, by)
    try:
        credential.problem = _check(credential).problem
    except AppError as error:  # its address leads elsewhere now, or the encryption key is gone
        credential.problem = error.message
    credential.checked_at = timezone.now()
    same = Credential.objects.filter(pk=credential.pk, secret_encrypted=credential.secret_encrypted)  # it may have been replaced
    same.update(problem=credential.problem, checked_at=credential.checked_at)
    return credential


def delete_credential(*, credential: Credential, by: User) -> None:
    """Operators may remove anybody's. Runs that are at work lose it too: their next request to a model is refused."""
    if credential.owner_id is None or not by.is_operator:
        _check_may(credential, by)
    whose = "site" if credential.owner_id is None else "own" if credential.owner_id == by.pk else f"user:{credential.owner_id}"
    with transaction.atomic():
        if Credential.objects.filter(pk=credential.pk).delete()[0]:
            audit.record(AuditKind.KEY_REMOVED, by=by, subject=f"credential:{credential.pk}", provider=credential.provider, whose=whose)


def _check_may(credential: Credential, by: User) -> None:
    if credential.owner_id is None and not by.is_operator:
        raise NotAllowed("Only operators keep the site's keys.")
    if credential.owner_id not in (None, by.pk):
        raise NotAllowed("This key belongs to somebody else.")


# --- what is typed ------------------------------------------------------------------------------------------------------


@sensitive_variables("secret")
def _valid_secret(provider: str, secret: str, kind: str) -> str:
    if kind not in CredentialKind.values:
        raise InvalidInput(f"Choose one of: {', '.join(CredentialKind.values)}.", field="kind")
    if kind == CredentialKind.SUBSCRIPTION and provider != Provider.ANTHROPIC:
        raise InvalidInput("Only Anthropic has subscription tokens.", field="kind")
    secret = secret.strip()
    if not secret:
        raise InvalidInput("Paste the key.", field="secret")
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise InvalidInput("A key has no spaces, line breaks or special characters. Copy it again.", field="secret")
    if not LEAST_SECRET <= len(secret) <= MOST_SECRET:
        raise InvalidInput(f"A key has from {LEAST_SECRET} to {MOST_SECRET:,} characters. Copy it again.", field="secret")
    if secret.startswith(SUBSCRIPTION_PREFIX) and kind != CredentialKind.SUBSCRIPTION:
        raise InvalidInput("This is a token of a Claude subscription. Choose that kind, and paste it again.", field="kind")
    return secret


def parse_base_url(text: str) -> str:
    """Where the API begins, in one spelling and without a slash at its end; "" is the provider's own address.

    https only, and no private address; for hosts in ALLOW_PRIVATE_HOSTS plain http and private addresses too. The name is not
    looked up here: that is done, and judged, at every contact.
    """

    def refuse(sentence: str) -> InvalidInput:
        return InvalidInput(sentence, field="base_url")

    text = text.strip()
    if not text:
        return ""
    if len(text) > MOST_URL or not text.isascii() or not re.fullmatch(r"[!-~]+", text) or "\\" in text:
        raise refuse(f"An address has up to {MOST_URL} plain characters, without spaces and backslashes. Copy it again.")
    try:
        parts = urlsplit(text)
        scheme, port = parts.scheme, {"https": 443, "http": 80}.get(parts.scheme, 0) if parts.port is None else parts.port
        host = normalize(f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "")
    except (ValueError, HostError):
        raise refuse("This is no address of an API. It should look like https://api.example.org.") from None
    if scheme not in ("https", "http") or not port:
        raise refuse("This is no https address. It should look like https://api.example.org.")
    if "@" in parts.netloc:
        raise refuse("The address has a user name or password in it. Give it without.")
    if "?" in text or "#" in text:
        raise refuse("The address has a query or fragment (? or #). Give it without.")
    target = Target(host, port)
    if target not in _private_hosts():
        if host == "localhost" or host.endswith(".localhost") or (is_address(host) and not is_public(host)):
            raise _is_private(target)
        if scheme == "http":
            raise refuse("Plain http is not encrypted and not accepted. Use https.")
    shown = str(target).removesuffix(":443" if scheme == "https" else ":80")
    return f"{scheme}://{shown}{parts.path.rstrip('/')}"


def _private_hosts() -> PrivateHosts:
    return PrivateHosts(settings.ALLOW_PRIVATE_HOSTS)


def _is_private(target: Target) -> InvalidInput:
    sentence = f"{target.host} leads to a private or reserved address. An operator can allow {target} in ALLOW_PRIVATE_HOSTS."
    return InvalidInput(sentence, field="base_url")


# --- what the provider says ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """`problem` is a sentence, "" when the key was taken; `is_refused`: it is the key that is wrong."""

    problem: str = ""
    is_refused: bool = False


async def _resolve(scheme: str, host: str, port: int) -> list[str]:
    target = Target(normalize(host), port)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    try:
        return usable_addresses(target, [str(entry[4][0]) for entry in found], is_exempt=target in _private_hosts())
    except PolicyError:
        raise _is_private(target) from None


@sensitive_variables()
def _check(credential: Credential) -> Said:
    """Ask the provider. InvalidInput when its address leads to where nothing of ours may go."""
    is_subscription = credential.kind == CredentialKind.SUBSCRIPTION
    key = Key(credential.provider, credential.secret, credential.base_url, is_subscription)
    label = LABELS[Provider(credential.provider)]
    where = urlsplit(credential.base_url or APIS[credential.provider].base_url).netloc

    async def ask() -> Reply:
        async with asyncio.timeout(CHECK_S):
            return await check(key, _resolve)

    try:
        answer = asyncio.run(ask())
    except TimeoutError:
        return Said(f"It is not checked yet: {where} does not answer within {CHECK_S} seconds.")
    except Failed as error:
        return Said(f"It is not checked yet: {error}")
    return _judged(answer, label, where, credential.secret)


@sensitive_variables("secret")
def _judged(answer: Reply, label: str, where: str, secret: str) -> Said:
    words = _without(secret, answer.said)
    said = f" {where} says: {words}" if words else ""
    if answer.is_refusal:
        what_to_do = said or " Copy it again, or make a new one there."
        return Said(f"{label} does not take this key ({answer.status}).{what_to_do}", is_refused=True)
    if answer.status == 200 and answer.json:
        return Said()
    if answer.status == 200:
        return Said(f"It is not checked yet: {where} answers, but not as the API of {label} does.")
    if answer.status == 429 or answer.status >= 500:
        return Said(f"It is not checked yet: {where} has no time now ({answer.status}).{said}")
    return Said(f"It could not be checked: {where} answers with {answer.status} to the list of its models.{said}")


@sensitive_variables("secret")
def _without(secret: str, text: str) -> str:
    """What was said, cut, without the secret or parts of it: providers like to repeat the beginning and the end of a key."""
    text = text.replace(secret, "…")
    text = " ".join("…" if secret[:6] in word or secret[-4:] in word else word for word in text.split())
    return text if len(text) <= MOST_SAID else text[: MOST_SAID - 1] + "…"


# --- new encryption keys ------------------------------------------------------------------------------------------------

ROTATED: tuple[tuple[type[models.Model], str], ...] = (
    (Variable, "value_encrypted"),
    (Credential, "secret_encrypted"),
    (GitHubAccount, "token_encrypted"),
    (GitHubAccount, "refresh_token_encrypted"),
    (OutgoingWebhook, "secret_encrypted"),
    (GitHubApp, "client_secret_encrypted"),
    (GitHubApp, "webhook_secret_encrypted"),
    (GitHubApp, "private_key_encrypted"),
)
ROWS_AT_ONCE = 200


@dataclass(frozen=True)
class Rotated:
    """One batch: how many were written anew, and the names of those that no key can read."""

    written: int
    unreadable: Sequence[str]


def rotate_keys() -> Iterator[Rotated]:
    """Write all stored secrets under the first of ENCRYPTION_KEYS, batch by batch; those under it already stay as they are."""
    for model, column in ROTATED:
        last = 0
        while rows := list(model._default_manager.filter(pk__gt=last).order_by("pk").values_list("pk", column)[:ROWS_AT_ONCE]):
            last = rows[-1][0]
            yield _rotate(model, column, rows)


def _rotate(model: type[models.Model], column: str, rows: Sequence[tuple[int, memoryview]]) -> Rotated:
    written, unreadable = 0, []
    with transaction.atomic():
        for pk, old in rows:
            if not old or is_fresh(old):  # an account may have no token
                continue
            if (new := rotate(old)) is None:
                unreadable.append(f"{model._meta.verbose_name} {pk}")
                continue
            written += model._default_manager.filter(pk=pk, **{column: old}).update(**{column: new})  # unless it was changed meanwhile
        if written:
            audit.record(AuditKind.SECRETS_ROTATED, by=None, subject=str(model._meta.model_name), secrets=written)
    return Rotated(written, unreadable)
