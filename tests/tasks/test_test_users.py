"""Test users: who may make them, what their token is worth, a world apart, and that nothing of it is left when the time is up."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, models
from django.test import Client
from django.utils import timezone

from tasks import accounts, leaving, repositories, signed_tokens, test_users, tokens, worlds
from tasks.errors import InvalidInput, NotAllowed, SourceRefused
from tasks.models import (
    ApiToken,
    AuditEntry,
    Budget,
    Event,
    Operation,
    OperationStatus,
    Patch,
    Quota,
    Repo,
    Run,
    RunStatus,
    Scope,
    Task,
    User,
)
from tasks.running import jobs, operations, quotas
from tests.tasks.api.conftest import Program
from tests.tasks.test_leaving import fill

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def here(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that allows them, with a data folder of its own. Nobody waits for sandboxes that are none."""
    settings.ALLOW_TEST_USERS, settings.PUBLIC_URL = "local", ""
    settings.DATA = tmp_path / "data"
    settings.LOCAL_REPO_ROOTS = [tmp_path / "src"]
    monkeypatch.setattr(leaving, "SANDBOXES_S", 0)


@pytest.fixture
def made() -> test_users.Made:
    return test_users.create(ttl=HOUR)


def run_out(*users: User) -> None:
    """Their time is up now."""
    User.objects.filter(pk__in=[user.pk for user in users]).update(expires_at=timezone.now())


def signed_in(made: test_users.Made) -> Client:
    client = Client()
    assert client.post(urlsplit(made.login_link).path).status_code == 302
    return client


def status(token: str) -> int:
    return Program(token).get("/me").status


# --- who may make them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "public_url", "refusal"),
    [
        ("off", "", "Set ALLOW_TEST_USERS=local"),
        ("off", "https://asynccode.example", "Set ALLOW_TEST_USERS=local"),
        ("local", "https://asynccode.example", "There is a PUBLIC_URL here"),
        ("local", "", ""),
        ("public", "https://asynccode.example", ""),
    ],
)
def test_only_where_the_setting_allows_it(settings: Any, setting: str, public_url: str, refusal: str) -> None:
    settings.ALLOW_TEST_USERS, settings.PUBLIC_URL = setting, public_url
    if refusal:
        with pytest.raises(CommandError, match=refusal):
            call_command("create_test_user", stdout=io.StringIO())
        assert not User.objects.exists()
    else:
        call_command("create_test_user", stdout=io.StringIO())
        assert User.objects.count() == 1


def test_the_command_prints_what_a_script_needs_and_nothing_else() -> None:
    out = io.StringIO()
    call_command("create_test_user", "--ttl", "30m", stdout=out)
    token, link = out.getvalue().splitlines()
    assert status(token) == 200
    assert accounts.use_login_link(link.rstrip("/").rpartition("/")[2]) == User.objects.get()
    out = io.StringIO()
    call_command("create_test_user", "--json", stdout=out)
    told = json.loads(out.getvalue())
    user = User.objects.get(username=told["username"])
    assert status(told["token"]) == 200
    assert told["expires_at"] == user.expires_at.isoformat()  # type: ignore[union-attr]
    assert {repo["id"] for repo in told["repos"]} == set(user.repos.values_list("pk", flat=True))


def test_times_have_a_unit_and_bounds() -> None:
    assert [test_users.parse_ttl(text) for text in ("30m", "1h", "2d")] == [timedelta(minutes=30), HOUR, timedelta(days=2)]
    for text in ("", "1", "h", "0m", "-1h", "1.5h", "8d", "999999d", "1h30m", "1w", "١h"):
        with pytest.raises(InvalidInput, match="from 1m to 7d"):
            test_users.parse_ttl(text)


def test_a_test_user_is_nobody_special(made: test_users.Made) -> None:
    user = User.objects.get()
    assert user.username.startswith("test-")
    assert not user.is_staff
    assert not user.is_superuser
    assert not user.has_usable_password()
    with pytest.raises(ValidationError, match="cannot be an operator"):
        User(username="x", password="!", is_staff=True, expires_at=user.expires_at).full_clean()  # what the administration does
    with pytest.raises(IntegrityError):
        User.objects.update(is_staff=True)


@pytest.mark.parametrize(
    ("each_usd", "each", "usd", "at_once", "a_day"),
    [
        (None, None, 5, 2, 20),
        (100, {"at_once": 8, "a_day": 500}, 5, 2, 20),
        ("0.50", {"at_once": 1}, Decimal("0.50"), 1, 20),
        (None, {"a_day": 3}, 5, 2, 3),
    ],
)
def test_a_test_user_cannot_spend_without_end(
    each_usd: Any, each: dict[str, int] | None, usd: Any, at_once: int, a_day: int, make_run: Callable[..., Run]
) -> None:
    """A budget and a quota of its own, which are never more than each person has."""
    if each_usd is not None:
        Budget.objects.create(scope="user", usd=each_usd)
    if each:
        Quota.objects.create(scope="user", **each)
    user = test_users.create(ttl=HOUR).user
    assert (user.budgets.get().usd, quotas.at_once(quotas.of(user))) == (usd, at_once)
    make_run(owner=user, status=RunStatus.SUCCEEDED)
    with pytest.raises(quotas.QuotaUsedUp, match=f"You may begin {a_day} runs a day, and have begun 1 today"):
        quotas.check_day(owner=user, runs=a_day)
    quotas.check_day(owner=user, runs=a_day - 1)


# --- the token ------------------------------------------------------------------------------------------------------------


def test_the_token_goes_where_any_token_goes(made: test_users.Made) -> None:
    program = Program(made.token)
    me = program.get("/me").body
    assert (me["username"], me["is_operator"], me["scope"]) == (made.user.username, False, "write")
    for operation in Operation.objects.filter(kind="mirror"):
        jobs.run_operation(operation.pk)
    for repo in program.get("/repos").body["items"]:
        answer = program.post("/tasks", {"repo": repo["id"], "prompt": "true", "agents": [{"agent": "shell"}]})
        assert answer.status == 201, answer.body
    assert Run.objects.filter(task__owner=made.user, status=RunStatus.QUEUED, task__base_commit__regex="^[0-9a-f]{40}$").count() == 2
    assert tokens.revoke_token(token=ApiToken.objects.get(), by=made.user)
    assert program.get("/me").status == 401


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_a_token_that_was_changed_is_none(made: test_users.Made, alice: User) -> None:
    head, body, signature = made.token.split(".")
    claims = jwt.decode(made.token, options={"verify_signature": False})
    key = signed_tokens._key()
    forged = {
        "no algorithm": f"{_part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "no algorithm, the signature kept": f"{_part({'alg': 'none', 'typ': 'JWT'})}.{body}.{signature}",
        "another algorithm": jwt.encode(claims, key * 2, algorithm="HS512"),
        "another key": jwt.encode(claims, "x" * 32, algorithm="HS256"),
        "another user": f"{head}.{_part(claims | {'sub': str(alice.pk)})}.{signature}",
        "no signature": f"{head}.{body}.",
        "another audience": jwt.encode(claims | {"aud": "others"}, key, algorithm="HS256"),
        "many audiences": jwt.encode(claims | {"aud": [signed_tokens.AUDIENCE]}, key, algorithm="HS256"),
        "no end": jwt.encode({name: value for name, value in claims.items() if name != "exp"}, key, algorithm="HS256"),
        "no date": jwt.encode(claims | {"exp": 10**30}, key, algorithm="HS256"),
        "over": jwt.encode(claims | {"exp": claims["iat"] - 1}, key, algorithm="HS256"),
        "too long": made.token + "a" * signed_tokens.LONGEST,
        "nonsense": "é.\udcff.x",
    }
    for name, text in forged.items():
        assert signed_tokens.read(text) is None, name
        assert tokens.authenticate(text, scope=Scope.READ) is None, name
    assert status(forged["no algorithm"]) == 401
    assert status(made.token) == 200


def test_a_good_signature_alone_opens_nothing(made: test_users.Made, alice: User) -> None:
    """A token needs its row too, and may not go on for longer than its user."""
    claims = jwt.decode(made.token, options={"verify_signature": False})
    other = jwt.encode(claims | {"sub": str(alice.pk)}, signed_tokens._key(), algorithm="HS256")
    assert signed_tokens.read(other) is not None
    assert status(other) == 401
    ApiToken.objects.update(user=alice)
    assert status(made.token) == 401
    ApiToken.objects.update(user=made.user)
    assert status(made.token) == 200
    User.objects.filter(pk=made.user.pk).update(expires_at=timezone.now() + HOUR / 2)
    assert status(made.token) == 401


# --- when the time is up --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["the time is up", "the setting is off", "the user is shut out", "the user is gone"])
def test_every_way_in_is_shut_at_once(made: test_users.Made, settings: Any, end: str) -> None:
    own = tokens.create_token(user=made.user, name="own", scope="read", expires_in_days=None)[1]
    link = accounts.create_login_link(user=made.user).rstrip("/").rpartition("/")[2]
    client = signed_in(made)
    assert (status(made.token), status(own), client.get("/settings/").status_code) == (200, 200, 200)
    if end == "the time is up":
        run_out(made.user)
    elif end == "the setting is off":
        settings.ALLOW_TEST_USERS = "off"
    elif end == "the user is shut out":
        User.objects.update(is_active=False)
    else:
        made.user.delete()
    assert (status(made.token), status(own), client.get("/settings/").status_code) == (401, 401, 302)
    assert accounts.use_login_link(link) is None


def test_links_and_sessions_end_with_their_user(made: test_users.Made) -> None:
    signed_in(made)
    ends = made.user.expires_at
    assert made.user.login_links.get().expires_at == ends
    assert Session.objects.get().expire_date == ends


def owned() -> dict[str, int]:
    """How many rows there are of every kind that belongs to a user, or to a task or repository, which do."""
    whose = (User, Task, Run, Repo)

    def is_owned(model: type[models.Model]) -> bool:
        leads_to = {field.related_model for field in model._meta.get_fields() if isinstance(field, models.ForeignKey)}
        return model in whose or not leads_to.isdisjoint(whose)

    kinds = [model for model in apps.get_models() if is_owned(model)]
    assert len(kinds) > 20
    return {model._meta.label: count for model in kinds if (count := model._default_manager.count())}


def test_nothing_is_left_afterwards(alice: User, make_run: Callable[..., Run], settings: Any) -> None:
    other = make_run(owner=alice, status=RunStatus.SUCCEEDED)
    alices = Client()
    alices.force_login(alice)
    before = owned()
    made = test_users.create(ttl=HOUR)
    for operation in Operation.objects.filter(kind="mirror"):
        jobs.run_operation(operation.pk)
    working, _ = fill(made.user, make_run)
    signed_in(made)
    mirrors = [repo.mirror_path for repo in made.repos]
    assert all(path.exists() for path in [*mirrors, made.user.world])
    test_users.end_due()
    assert User.objects.get(pk=made.user.pk).is_active

    run_out(made.user)
    for session in Session.objects.all():  # the test has shortened the time of the user, so of the session too
        if session.get_decoded()["_auth_user_id"] == str(made.user.pk):
            Session.objects.filter(pk=session.pk).update(expire_date=User.objects.get(pk=made.user.pk).expires_at)
    test_users.end_due()
    working.refresh_from_db()
    assert working.stop_requested_at is not None
    test_users.end_due()  # while it is under way
    operation = Operation.objects.get(kind="leave")
    operations.work(operation.pk)
    operations.work(operation.pk)
    test_users.end_due()
    assert Operation.objects.filter(kind="leave").count() == 1
    assert owned() == before
    assert list(Run.objects.all()) == [other]
    assert not Event.objects.exists()
    assert not Patch.objects.exists()
    assert [session.get_decoded()["_auth_user_id"] for session in Session.objects.all()] == [str(alice.pk)]
    assert not any(path.exists() for path in [*mirrors, made.user.world])
    assert AuditEntry.objects.filter(kind="user_shut_out", subject=f"user:{made.user.pk}", user_id=None).count() == 1


def test_what_was_cut_off_is_gone_on_with(made: test_users.Made, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker dies with half of it deleted, as often as an operation may be tried."""
    fill(made.user, make_run)
    run_out(made.user)
    test_users.end_due()
    with monkeypatch.context() as patch:

        def die(user: User) -> None:
            raise OSError("the disk is away")

        patch.setattr(worlds, "remove", die)
        with pytest.raises(OSError, match="the disk is away"):
            operations.work(Operation.objects.get(kind="leave").pk)
    Operation.objects.filter(kind="leave").update(tries=operations.MOST_TRIES, lease_until=timezone.now())
    operations.start_again()
    assert Operation.objects.get(kind="leave").status == OperationStatus.FAILED
    assert not Task.objects.filter(owner=made.user).exists()
    assert User.objects.filter(pk=made.user.pk).exists()
    test_users.end_due()
    operations.work(Operation.objects.get(kind="leave", status=OperationStatus.QUEUED).pk)
    assert not User.objects.filter(pk=made.user.pk).exists()
    assert not made.user.world.exists()


def test_folders_without_a_row_are_found(made: test_users.Made, settings: Any) -> None:
    """A host that had no part in the deletion, or died right after the rows were gone, has folders left."""
    for operation in Operation.objects.filter(kind="mirror"):
        jobs.run_operation(operation.pk)
    stays = test_users.create(ttl=HOUR)
    mirrors = [repo.mirror_path for repo in made.repos]
    User.objects.filter(pk=made.user.pk).delete()
    worlds.discard_strays()
    worlds.discard_strays()
    assert not any(path.exists() for path in [*mirrors, made.user.world])
    assert (stays.user.world / "greeting" / ".git").is_dir()


def test_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_users, "MOST_AT_ONCE", 2)
    users = [test_users.create(ttl=HOUR).user for _ in range(3)]
    run_out(*users)
    test_users.end_due()
    assert User.objects.filter(is_active=True).count() == 1
    test_users.end_due()
    assert not User.objects.filter(is_active=True).exists()
    assert Operation.objects.filter(kind="leave").count() == 3


# --- a world apart --------------------------------------------------------------------------------------------------------


def test_nobody_sees_the_things_of_others(made: test_users.Made, alice: User, make_run: Callable[..., Run]) -> None:
    run = make_run(owner=alice)
    second = test_users.create(ttl=HOUR)
    program = Program(made.token)
    assert {repo["id"] for repo in program.get("/repos").body["items"]} == {repo.pk for repo in made.repos}
    assert program.get(f"/runs/{run.pk}").status == 404
    assert program.get(f"/repos/{second.repos[0].pk}").status == 404
    assert program.get("/runs").body["items"] == []
    alices = Program(tokens.create_token(user=alice, name="x", scope="read", expires_in_days=None)[1])
    assert alices.get(f"/repos/{made.repos[0].pk}").status == 404


def test_paths_are_for_those_they_were_made_for(made: test_users.Made, alice: User, bob: User, tmp_path: Path) -> None:
    second = test_users.create(ttl=HOUR)
    own, others = made.repos[0].source, second.repos[0].source
    assert repositories.add_repo(by=made.user, source=own) == made.repos[0]
    client = signed_in(made)
    assert Path(own).name in client.get("/pick/repos", {"q": own}).content.decode()
    assert "outside the folders" in client.get("/pick/repos", {"q": others}).content.decode()
    (tmp_path / "src").mkdir()
    worlds._git_repository(tmp_path / "src" / "private", {"a": "b"})
    assert repositories.add_repo(by=alice, source=str(tmp_path / "src" / "private"))
    for by, source in [(made.user, others), (made.user, str(tmp_path / "src" / "private")), (alice, own), (bob, own)]:
        with pytest.raises(SourceRefused):
            repositories.add_repo(by=by, source=source)


def test_no_token_is_made_for_others(alice: User, settings: Any) -> None:
    with pytest.raises(ValueError, match="no test user"):
        tokens.create_signed_token(user=alice)
    settings.ALLOW_TEST_USERS = "off"
    with pytest.raises(NotAllowed):
        test_users.create(ttl=HOUR)
