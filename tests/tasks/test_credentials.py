"""Keys of model providers: checked before they are kept, never told again, and moved to new encryption keys."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from agents.prices import PRICES
from agents.registry import ADAPTERS
from tasks import credentials
from tasks.errors import InvalidInput, NotAllowed
from tasks.models import Credential, GitHubAccount, Price, Repo, User
from tests.tasks.provider import GOOD, Provider, provider

pytestmark = pytest.mark.django_db
BAD = "sk-bad-0123456789abcdefgh"


@pytest.fixture
def there(settings: Settings) -> Iterator[Provider]:
    """A provider that may be asked."""
    with provider() as it:
        settings.ALLOW_PRIVATE_HOSTS = frozenset({it.address})
        yield it


def save(user: User, there: Provider, secret: str = GOOD, provider: str = "openai", **more: Any) -> Credential:
    return credentials.save_credential(by=user, provider=provider, secret=secret, **{"base_url": there.url} | more)


def test_a_key_is_checked_and_kept_encrypted(alice: User, there: Provider) -> None:
    credential = save(alice, there)
    stored = Credential.objects.values().get()
    assert GOOD not in str(stored)
    assert GOOD.encode() not in bytes(stored["secret_encrypted"])
    assert (credential.secret, credential.hint, credential.problem) == (GOOD, "cdef", "")
    assert credential.checked_at
    assert credential.base_url == there.url


@pytest.mark.parametrize(
    ("provider", "kind", "path", "shown"),
    [
        ("anthropic", "api_key", "/v1/models?limit=1", {"x-api-key": GOOD, "anthropic-version": "2023-06-01"}),
        (
            *("anthropic", "subscription", "/v1/models?limit=1"),
            {"authorization": f"Bearer {GOOD}", "anthropic-beta": "oauth-2025-04-20", "anthropic-version": "2023-06-01"},
        ),
        ("openai", "api_key", "/v1/models", {"authorization": f"Bearer {GOOD}"}),
        ("gemini", "api_key", "/v1beta/models?pageSize=1", {"x-goog-api-key": GOOD}),
    ],
)
def test_each_provider_is_asked_in_its_own_way(
    alice: User, there: Provider, provider: str, kind: str, path: str, shown: dict[str, str]
) -> None:
    assert save(alice, there, provider=provider, kind=kind).problem == ""
    [(asked, headers)] = there.asked
    assert asked == path
    assert shown.items() <= headers.items()
    secret_headers = {"x-api-key", "authorization", "x-goog-api-key"}
    assert len(secret_headers & headers.keys()) == 1


def test_a_base_url_may_end_with_the_version(alice: User, there: Provider) -> None:
    assert save(alice, there, base_url=f"{there.url}/v1/").problem == ""
    assert there.asked[0][0] == "/v1/models"


@pytest.mark.parametrize(
    ("provider", "status", "answer"),
    [
        ("anthropic", 401, {"error": {"message": f"invalid x-api-key {BAD}"}}),
        ("openai", 403, {"error": {"message": f"Incorrect API key provided: {BAD[:7]}******{BAD[-4:]}. \u202e<b>"}}),
        ("gemini", 400, {"error": {"message": "API key not valid", "details": [{"reason": "API_KEY_INVALID"}]}}),
        ("openai", 401, {"error": "x" * 5000}),
        ("openai", 401, b"<html>no</html>"),
    ],
)
def test_a_refused_key_changes_nothing_and_is_not_repeated(alice: User, there: Provider, provider: str, status: int, answer: Any) -> None:
    save(alice, there, provider=provider)
    there.status, there.answer = status, answer
    with pytest.raises(InvalidInput, match="does not take this key") as error:
        save(alice, there, BAD, provider=provider)
    assert error.value.field == "secret"
    assert BAD not in error.value.message
    assert BAD[-4:] not in error.value.message
    assert len(error.value.message) < 500
    assert Credential.objects.get().secret == GOOD


@pytest.mark.parametrize(
    ("status", "answer", "problem"),
    [
        (429, {"error": {"message": "Slow down"}}, "has no time now (429). {there} says: Slow down"),
        (529, {}, "has no time now (529)"),
        (404, {"error": {"message": "Nothing here"}}, "answers with 404"),
        (200, b"<html>Welcome</html>", "not as the API of OpenAI"),
        (200, b"[" * 100_000, "not as the API of OpenAI"),
    ],
)
def test_what_cannot_be_checked_now_is_kept_and_says_so(alice: User, there: Provider, status: int, answer: Any, problem: str) -> None:
    there.status, there.answer = status, answer
    assert problem.format(there=there.address) in save(alice, there, BAD).problem
    assert Credential.objects.get().secret == BAD


def test_a_redirect_is_not_followed(alice: User, there: Provider) -> None:
    with provider() as elsewhere:
        there.status, there.headers = 307, {"Location": f"{elsewhere.url}/v1/models"}
        assert "answers with 307" in save(alice, there, BAD).problem
        assert elsewhere.asked == []


def test_nobody_there_and_no_such_name(alice: User, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings.ALLOW_PRIVATE_HOSTS = frozenset({f"127.0.0.1:{port}"})
    for address in (f"http://127.0.0.1:{port}", "https://nowhere.invalid"):
        saved = credentials.save_credential(by=alice, provider="openai", secret=GOOD, base_url=address)
        assert "cannot be reached from here" in saved.problem
        assert GOOD not in saved.problem


def test_a_silent_address_is_given_up(alice: User, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "CHECK_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings.ALLOW_PRIVATE_HOSTS = frozenset({address})
        saved = credentials.save_credential(by=alice, provider="openai", secret=GOOD, base_url=f"http://{address}")
    assert "does not answer within" in saved.problem


def test_a_name_that_leads_to_a_private_address_is_refused(alice: User, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is judged when it is connected to, whatever the name looked like."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 443))])
    with pytest.raises(InvalidInput, match="private or reserved") as error:
        credentials.save_credential(by=alice, provider="openai", secret=GOOD, base_url="https://api.example.org")
    assert error.value.field == "base_url"
    assert not Credential.objects.exists()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"secret": " "}, "secret"),
        ({"secret": "short"}, "secret"),
        ({"secret": "x" * 2001}, "secret"),
        ({"secret": "sk-with a space"}, "secret"),
        ({"secret": "sk-two\nlines-of-it"}, "secret"),
        ({"secret": "sk-nul\0-0123456"}, "secret"),
        ({"secret": "sk-ünicode-0123456"}, "secret"),
        ({"secret": "sk-ant-oat01-abcdefgh"}, "kind"),
        ({"kind": "password"}, "kind"),
        ({"kind": "subscription"}, "kind"),
        ({"provider": "example"}, "provider"),
        *(
            ({"base_url": address}, "base_url")
            for address in (
                *("example.org", "ftp://example.org", "javascript:alert(1)", "https://", "https://exa mple.org", "https://a\nb.org"),
                *("http://example.org", "https://user@example.org", "https://u:p@example.org", "https://example.org?a=1"),
                *("https://example.org/#a", "https://example.org\\@127.0.0.1", "https://" + "x" * 500 + ".org"),
                *("https://127.0.0.1", "https://2130706433", "https://0x7f.1", "https://[::1]", "https://169.254.169.254/latest"),
                *("https://localhost", "https://a.localhost", "https://example.org:0", "https://example.org:99999", "https://10.1.2.3"),
            )
        ),
    ],
)
def test_what_is_refused_before_anybody_is_asked(alice: User, there: Provider, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        save(alice, there, **fields)
    assert error.value.field == field
    assert there.asked == []
    assert not Credential.objects.exists()
    if len(fields.get("secret", "")) > 3:
        assert fields["secret"] not in error.value.message


def test_white_space_around_a_key_is_not_part_of_it(alice: User, there: Provider) -> None:
    assert save(alice, there, f" {GOOD}\r\n").secret == GOOD


def test_one_key_a_provider_and_person(alice: User, bob: User, there: Provider) -> None:
    first = save(alice, there)
    assert save(alice, there, base_url=f"{there.url}/v1").pk == first.pk
    save(bob, there)
    save(alice, there, provider="gemini")
    save(alice, there, for_site=True)
    assert Credential.objects.count() == 4
    assert Credential.objects.visible_to(bob).get().owner == bob


def test_only_operators_keep_the_sites_keys(alice: User, bob: User, there: Provider) -> None:
    with pytest.raises(NotAllowed):
        save(bob, there, for_site=True)
    sites = save(alice, there, for_site=True)
    assert sites.owner is None
    for verb in (credentials.check_credential, credentials.delete_credential):
        with pytest.raises(NotAllowed):
            verb(credential=sites, by=bob)
    credentials.delete_credential(credential=sites, by=alice)
    assert not Credential.objects.exists()


def test_nobody_touches_somebody_elses_key_but_operators_may_remove_it(alice: User, bob: User, charlie: User, there: Provider) -> None:
    his = save(bob, there)
    for verb in (credentials.check_credential, credentials.delete_credential):
        with pytest.raises(NotAllowed):
            verb(credential=his, by=charlie)
    with pytest.raises(NotAllowed):
        credentials.check_credential(credential=his, by=alice)
    credentials.delete_credential(credential=his, by=alice)
    assert not Credential.objects.exists()


def test_checking_again_tells_what_is_so_now(alice: User, there: Provider) -> None:
    there.status = 503
    credential = save(alice, there, BAD)
    assert "no time now" in credential.problem
    there.status = 401
    assert "does not take this key" in credentials.check_credential(credential=credential, by=alice).problem
    there.status, there.answer = 200, {"data": []}
    credentials.check_credential(credential=credential, by=alice)
    credential.refresh_from_db()
    assert credential.problem == ""


# --- new encryption keys ------------------------------------------------------------------------------------------------

OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))


def rotate() -> str:
    said = StringIO()
    call_command("rotate-keys", stdout=said)
    return said.getvalue()


def test_all_secrets_move_to_the_first_key(
    alice: User, bob: User, there: Provider, make_task: Callable[..., Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "ROWS_AT_ONCE", 2)
    settings.ENCRYPTION_KEYS = [OLD]
    repo: Repo = make_task().repo
    for number in range(5):
        variable = repo.variables.model(repo=repo, name=f"N{number}")
        variable.value = f"value {number}"
        variable.save()
    save(alice, there)
    connected = GitHubAccount(user=alice, github_id=1, login="alice")
    connected.token = "gho_1234"
    connected.save()
    GitHubAccount.objects.create(user=bob, github_id=2, login="bob")  # without a token
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    assert "7 secrets are written anew" in rotate()
    assert "0 secrets are" in rotate()
    settings.ENCRYPTION_KEYS = [NEW]
    assert [variable.value for variable in repo.variables.order_by("name")] == [f"value {number}" for number in range(5)]
    assert Credential.objects.get().secret == GOOD
    assert GitHubAccount.objects.get(user=alice).token == "gho_1234"


def test_a_new_key_is_prepared_in_front_of_the_old_ones(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    said = StringIO()
    call_command("rotate-keys", "--prepare", stdout=said)
    name, _, keys = said.getvalue().strip().partition("=")
    new, old = keys.split(",")
    assert (name, old) == ("ENCRYPTION_KEYS", OLD)
    assert Fernet(new)
    assert new != OLD


def test_a_secret_that_no_key_reads_is_named_and_left(alice: User, bob: User, there: Provider, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [LOST]
    lost = save(bob, there)
    settings.ENCRYPTION_KEYS = [OLD]
    save(alice, there)
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    said = StringIO()
    with pytest.raises(CommandError, match=f"credential {lost.pk}"):
        call_command("rotate-keys", stdout=said)
    assert "1 secret is written anew" in said.getvalue()
    settings.ENCRYPTION_KEYS = [LOST]
    assert Credential.objects.get(pk=lost.pk).secret == GOOD


# --- prices -------------------------------------------------------------------------------------------------------------


def test_default_prices_leave_what_an_operator_changed() -> None:
    add_prices = import_module("tasks.migrations.0004_prices").add_prices
    Price.objects.all().delete()
    Price.objects.create(model="gpt-5", input_usd=7, cached_usd=7, cache_write_usd=7, output_usd=7)
    for _ in range(2):
        add_prices(apps, SimpleNamespace(connection=connection))
    assert Price.objects.count() == len(PRICES)
    assert Price.objects.get(model="gpt-5").input_usd == 7
    assert all(price.cached_usd <= price.input_usd <= price.output_usd for price in Price.objects.all())


@pytest.mark.parametrize("name", [model.name for adapter in ADAPTERS.values() for model in adapter.models])
def test_every_model_that_is_offered_has_a_price(name: str) -> None:
    assert any(name.rpartition("/")[2].startswith(model) for model, *_ in PRICES)
