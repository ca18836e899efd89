"""GitHub as the settings show it: how the user is connected, and the form for a pasted token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django import forms
from django.conf import settings

from tasks.github import people, registration
from tasks.github_api import apps, credentials
from tasks.models import GitHubAccount, GitHubApp, User
from tasks.web.forms import VerbForm


class TokenForm(VerbForm):
    """A personal access token; never shown again, not even beside an error."""

    token = forms.CharField(
        max_length=1000,
        widget=forms.PasswordInput(
            attrs={
                "autocomplete": "off",
                "spellcheck": "false",
                "placeholder": "github_pat_…",
                "data-1p-ignore": True,
                "data-lpignore": "true",
            }
        ),
        error_messages={"required": "Paste the token."},
    )

    def submit(self, *, user: User) -> GitHubAccount | None:
        return self.attempt(lambda: people.connect_token(user=user, token=self.cleaned_data["token"]))


class AppForm(VerbForm):
    """Whose the GitHub App of this server is to be."""

    organization = forms.CharField(
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def submit(self, *, user: User) -> str | None:
        """Where the manifest goes to."""

        def begin() -> str:
            registration.check_may_begin(user)
            return registration.address_of_form(self.cleaned_data["organization"])

        return self.attempt(begin)


@dataclass(frozen=True)
class Connection:
    """What the section shows; no token."""

    account: GitHubAccount | None
    form: TokenForm
    app: GitHubApp | None
    app_form: AppForm

    @property
    def can_sign_in(self) -> bool:
        return self.app is not None or people.may_sign_in()

    @property
    def is_by_app(self) -> bool:
        """Whether the token came by the app, so that it reaches what that is installed on."""
        return self.account is not None and self.app is not None and self.account.client_id == self.app.client_id

    @property
    def has_sites_token(self) -> bool:
        return bool(settings.GITHUB_TOKEN)

    @property
    def needs_sign_in(self) -> bool:
        return self.account is not None and credentials.needs_sign_in(self.account)

    @property
    def missing(self) -> Sequence[str]:
        """What the token cannot do that work on repositories needs, in sentences."""
        return credentials.missing(self.account) if self.account and self.account.token_encrypted else []

    @property
    def is_only_in(self) -> bool:
        """Whether signing in with GitHub is how the user comes in, so that the account itself cannot be let go."""
        return self.account is not None and self.account.checked_at is not None

    @property
    def tokens_page(self) -> str:
        return f"{settings.GITHUB_URL}/settings/personal-access-tokens/new"


def connection(user: User, tried: TokenForm | None = None) -> Connection:
    account = GitHubAccount.objects.filter(user=user).first()
    return Connection(account, tried or TokenForm(auto_id="github_%s"), apps.current(), AppForm(auto_id="github_app_%s"))
