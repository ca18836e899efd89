"""The verbs of GitHub accounts: coming in with one, connecting one, disconnecting it, being let in no more.

An account is known by GitHub's id of it, never by an e-mail address and never by its name. Whom the lists let in is asked about
again at each sign-in and daily (`checked_at` is set); who was let in by an operator and connected GitHub later is not (it is null).
Who is listed no more is made inactive; an operator who makes somebody active or inactive takes that from the lists.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from tasks import accounts, audit
from tasks.errors import AppError, Conflict, InvalidInput, NotAllowed
from tasks.github_api import admission, apps, credentials, renewal
from tasks.github_api.credentials import Person
from tasks.models import ApiToken, AuditKind, GitHubAccount, GitHubCredentialKind, User

logger = logging.getLogger(__name__)

UNCLEAR_FOR = timedelta(days=7)  # so long somebody stays signed in while GitHub does not say whether they still may
NOT_LISTED = "Your GitHub account {login} may not come in here. Ask an operator of this server to let it in, or for a login link."


def come_in(person: Person) -> User:
    """The user whom this GitHub account signs in, made if the lists let somebody new in.

    NotAllowed when it may not come in (any more); Unclear when GitHub does not say now.
    """
    account = _account(person.github_id)
    if account is None:
        account = _add(person)
    elif account.checked_at is not None:
        _look_again(account, person)
    elif not account.user.is_welcome:
        raise NotAllowed("An operator of this server has closed your account. Ask them.")
    _keep(account, person)
    return account.user


def _account(github_id: int) -> GitHubAccount | None:
    return GitHubAccount.objects.select_related("user").filter(github_id=github_id).first()


def _add(person: Person) -> GitHubAccount:
    if not admission.is_listed(login=person.login, token=person.token):
        raise NotAllowed(NOT_LISTED.format(login=person.login))
    is_by_name = person.login.lower() in settings.GITHUB_ALLOWED_USERS
    if is_by_name and GitHubAccount.objects.filter(login__iexact=person.login).exists():
        raise NotAllowed(f"Somebody else came in here as {person.login} before, and names at GitHub can change hands. Ask an operator.")
    try:
        with transaction.atomic():
            user = User(username=_free_name(person.login), display_name=_shown(person.name), email=person.email)
            user.set_unusable_password()
            user.save()
            audit.record(AuditKind.USER_ADDED, by=None, subject=user, username=user.username, login=person.login)
            return GitHubAccount.objects.create(user=user, github_id=person.github_id, login=person.login, checked_at=Now())
    except IntegrityError:  # the same one came in twice at the same time
        if (account := _account(person.github_id)) is None:
            raise Conflict("Somebody else came in at the same moment. Try again.") from None
        return account


def _free_name(login: str) -> str:
    """A username that nobody has. Whoever has the same one already is somebody else."""
    taken = {name.lower() for name in User.objects.filter(username__istartswith=login).values_list("username", flat=True)}
    names = (login if number == 1 else f"{login}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name.lower() not in taken)


def _shown(name: str) -> str:
    name = " ".join(name.split())
    return name if name.isprintable() and len(name) <= accounts.MOST_NAME else ""


def _look_again(account: GitHubAccount, person: Person) -> None:
    if not admission.is_listed(login=person.login, token=person.token):
        dismiss(account)
        raise NotAllowed(NOT_LISTED.format(login=person.login))
    if not account.user.is_active:
        User.objects.filter(pk=account.user_id).update(is_active=True)
        account.user.is_active = True
        logger.info("%s is listed again, and has signed in with GitHub.", person.login)
    GitHubAccount.objects.filter(pk=account.pk).update(checked_at=Now())


def _keep(account: GitHubAccount, person: Person) -> None:
    """Keep the account's present name, and its token unless the one that is there can do more."""
    account.login = person.login
    changed = ["login"]
    is_spent = not account.token_encrypted or account.refused_at or (account.expires_at and account.expires_at <= timezone.now())
    if is_spent or (account.kind == GitHubCredentialKind.OAUTH and set(person.scopes) >= set(account.scopes)):
        changed += _take_token(account, person)
    account.save(update_fields=changed)


@sensitive_variables()
def _take_token(account: GitHubAccount, person: Person) -> list[str]:
    account.token, account.scopes, account.kind = person.token, sorted(person.scopes), person.kind
    account.expires_at, account.refused_at = person.expires_at, None
    account.refresh_token, account.refresh_expires_at, account.client_id = person.refresh_token, person.refresh_expires_at, person.client_id
    return ["token_encrypted", "scopes", "kind", "expires_at", "refused_at", "refresh_token_encrypted", "refresh_expires_at", "client_id"]


def connect(*, user: User, person: Person) -> GitHubAccount:
    """The user's own GitHub account from now on, with this token in place of the one there was."""
    others = Conflict(f"Somebody else here has connected {person.login}. Sign in as them and disconnect it first.")
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if GitHubAccount.objects.filter(github_id=person.github_id).exclude(user=user).exists():
            raise others
        account = GitHubAccount.objects.filter(user=user).first()
        if account is not None and account.github_id != person.github_id:
            raise Conflict(f"This is {person.login} at GitHub, but you are connected as {account.login}. Disconnect that one first.")
        account = account or GitHubAccount(user=user, github_id=person.github_id)
        account.login = person.login
        _take_token(account, person)
        try:
            with transaction.atomic():
                account.save()
        except IntegrityError:  # at the same moment
            raise others from None
        audit.record(AuditKind.GITHUB_CONNECTED, by=user, subject=account, login=person.login)
    return account


@sensitive_variables("token")
def connect_token(*, user: User, token: str) -> GitHubAccount:
    """The same by a personal access token that was pasted, asked about at GitHub first."""
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token or not 8 <= len(token) <= 1000:
        raise InvalidInput("This does not look like a token of GitHub's. Copy it again.", field="token")
    return connect(user=user, person=credentials.look(token))


def disconnect(*, user: User) -> bool:
    """Forget the user's token. Whoever comes in by the lists goes on doing so; else the account is forgotten too. False: nothing there."""
    with transaction.atomic():
        account = GitHubAccount.objects.select_for_update().filter(user=user).first()
        if account is None:
            return False
        audit.record(AuditKind.GITHUB_DISCONNECTED, by=user, subject=account, login=account.login)
        if account.checked_at is None:
            account.delete()
            return True
        had_token = bool(account.token_encrypted)
        _take_token(account, Person(account.github_id, account.login, token=""))
        account.save()
    return had_token


# --- those who may not come in any more ---------------------------------------------------------------------------------


def check_everybody() -> None:
    """Ask about everybody whom the lists let in. One for whom that fails keeps nobody else from being asked about."""
    if not admission.has_lists():
        return
    listed = GitHubAccount.objects.filter(checked_at__isnull=False, user__is_active=True).select_related("user")
    for account in listed.order_by("pk").iterator(chunk_size=200):
        try:
            check(account)
        except credentials.Refused:
            GitHubAccount.objects.filter(pk=account.pk, token_encrypted=account.token_encrypted, refused_at=None).update(refused_at=Now())
            _sign_out(account)
        except AppError as error:
            logger.warning("%s was not asked about at GitHub: %s", account.login, error)
            _sign_out_if_late(account)


def check(account: GitHubAccount) -> None:
    """Let somebody in no more who is not listed any more, under the name that they have now. Unclear when GitHub does not say."""
    account = renewal.renewed(account)
    if account.refused_at is not None and account.token_encrypted:
        raise credentials.Refused
    is_over = account.expires_at is not None and account.expires_at <= timezone.now()
    token = "" if is_over else account.token
    login = credentials.look(token).login if token else account.login
    if admission.is_listed(login=login, token=token):
        GitHubAccount.objects.filter(pk=account.pk).update(checked_at=Now(), login=login)
    else:
        dismiss(account)


def dismiss(account: GitHubAccount) -> None:
    """End the user's sessions, and let them in no more until they are listed again; the administration shows it.

    An operator only loses the way in by GitHub and their API tokens: a login link lets them in, so that a mistake in the lists
    leaves no installation without anybody.
    """
    user = account.user
    with transaction.atomic():
        accounts.end_sessions(user=user)
        audit.record(AuditKind.USER_SHUT_OUT, by=None, subject=user, username=user.username, login=account.login)
        user.login_links.filter(used_at=None).delete()
        if user.is_staff:
            ApiToken.objects.filter(user=user, revoked_at=None).update(revoked_at=Now())
            account.delete()
        else:
            User.objects.filter(pk=user.pk).update(is_active=False)
            user.is_active = False
    logger.warning("%s is in none of GITHUB_ALLOWED_USERS and GITHUB_ALLOWED_ORGS any more, and is signed out.", account.login)


def _sign_out_if_late(account: GitHubAccount) -> None:
    if GitHubAccount.objects.filter(pk=account.pk, checked_at__lt=Now() - UNCLEAR_FOR).exists():
        _sign_out(account)


def _sign_out(account: GitHubAccount) -> None:
    """Whoever cannot be asked about signs in again, which asks."""
    accounts.end_sessions(user=account.user)
    logger.warning("%s is signed out: GitHub does not say whether they may still come in.", account.login)


def decided_by_operator(user: User) -> None:
    """An operator has decided whether this user may come in; the lists do not any more."""
    GitHubAccount.objects.filter(user=user).update(checked_at=None)


def may_sign_in() -> bool:
    """Whether people can sign in with GitHub. While the database is away, only what the settings say of that is known."""
    try:
        return apps.has_client()
    except OperationalError as error:
        logger.warning("Whether there is a GitHub App is not known: %s", error)
        return False
