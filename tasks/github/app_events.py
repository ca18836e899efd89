"""What webhooks say of the GitHub App itself: where it is installed, and who lets it act for them no more.

Handlers as those of webhook_events.py. A payload only makes us forget: what holds now GitHub is asked when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db.models.functions import Now

from tasks.github.payloads import Fields, Ignored
from tasks.github_api import apps, installations
from tasks.models import GitHubAccount, GitHubApp

Handler = Callable[[str, str, Fields], str]

_INSTALLATION = {
    "created": "is installed on {account}",
    "deleted": "is removed from {account}",
    "suspend": "is suspended on {account}",
    "unsuspend": "is not suspended on {account} any more",
    "new_permissions_accepted": "has new permissions on {account}",
}
_REPOSITORIES = {
    "added": "reaches more repositories of {account}",
    "removed": "reaches fewer repositories of {account}",
}


def installation(repository: str, action: str, fields: Fields) -> str:
    return _changed(_INSTALLATION, action, fields)


def installation_repositories(repository: str, action: str, fields: Fields) -> str:
    return _changed(_REPOSITORIES, action, fields)


def _changed(meanings: dict[str, str], action: str, fields: Fields) -> str:
    app = _app()
    if fields.id("installation.app_id") != app.app_id:
        raise Ignored("Nothing was done: this is about another GitHub App than this server's.")
    if action not in meanings:
        raise Ignored("Nothing was done: this changes nothing of where the GitHub App may work.")
    account = fields.text("installation.account.login", most=100)
    installations.forget(app, account)
    return f"{app.name} {meanings[action].format(account=account)}: what was known of it there, its tokens among it, is forgotten."


def github_app_authorization(repository: str, action: str, fields: Fields) -> str:
    """Somebody has taken back what they allowed the app when they signed in."""
    app, sender = _app(), fields.id("sender.id")
    if action != "revoked":
        raise Ignored("Nothing was done: this takes nothing back.")
    theirs = GitHubAccount.objects.filter(github_id=sender, client_id=app.client_id, refused_at=None).exclude(token_encrypted=b"")
    if not theirs.update(refused_at=Now()):
        raise Ignored("Nothing was done: nobody here has signed in by the app with that account.")
    return "Whoever that is here is asked to connect GitHub again."


def _app() -> GitHubApp:
    if (app := apps.current()) is None:
        raise Ignored("Nothing was done: this server has no GitHub App of its own.")
    return app


HANDLERS: dict[str, Handler] = {
    "installation": installation,
    "installation_repositories": installation_repositories,
    "github_app_authorization": github_app_authorization,
}
