"""Keys as the settings show them: a provider a row, and the form to save one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from django import forms

from agents.adapters.base import Provider
from agents.apis.registry import APIS
from tasks import credentials
from tasks.models import BudgetScope, Credential, CredentialKind, User
from tasks.running import model_access, offers
from tasks.running.model_access import Spent
from tasks.web.forms import VerbForm

# Where a key comes from, and what its form asks for it by.
WHERE = {
    Provider.ANTHROPIC: ("https://console.anthropic.com/settings/keys", "sk-ant-…"),
    Provider.OPENAI: ("https://platform.openai.com/api-keys", "sk-…"),
    Provider.GEMINI: ("https://aistudio.google.com/apikey", "AIza…"),
}


class KeyForm(VerbForm):
    """The key of one provider; the secret is never shown again, not even beside an error."""

    provider = forms.ChoiceField(choices=list(credentials.LABELS.items()), widget=forms.HiddenInput)
    for_site = forms.BooleanField(required=False, widget=forms.HiddenInput)
    kind = forms.ChoiceField(choices=CredentialKind, initial=CredentialKind.API_KEY, required=False, widget=forms.RadioSelect)
    secret = forms.CharField(
        strip=False,
        max_length=10_000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false", "data-1p-ignore": True, "data-lpignore": "true"}),
        error_messages={"required": "Paste the key."},
    )
    base_url = forms.CharField(required=False, max_length=2000, widget=forms.TextInput(attrs={"inputmode": "url", "autocomplete": "off"}))

    def submit(self, *, by: User) -> Credential | None:
        def save() -> Credential:
            given = self.cleaned_data | {"kind": self.cleaned_data["kind"] or CredentialKind.API_KEY}
            return credentials.save_credential(by=by, **given)

        return self.attempt(save)


@dataclass(frozen=True)
class KeyRow:
    """A provider, the key kept for it here (if any), what else there is, the agents that work with it."""

    provider: Provider
    label: str
    credential: Credential | None
    otherwise: str  # what is used without one: "site", "environment" or ""
    agents: Sequence[str]
    form: KeyForm
    is_sites: bool = False

    @property
    def id(self) -> str:
        return f"{self.provider}-{'site' if self.is_sites else 'own'}"

    @property
    def has_kinds(self) -> bool:
        return self.provider is Provider.ANTHROPIC

    @property
    def page(self) -> str:
        """Where the provider gives out keys."""
        return WHERE[self.provider][0]

    @property
    def host(self) -> str:
        return urlsplit(self.page).netloc


@dataclass(frozen=True)
class Keys:
    """The section: the user's own rows, and for operators also the site's."""

    own: Sequence[KeyRow]
    sites: Sequence[KeyRow]


@dataclass(frozen=True)
class Spending:
    """What was spent of the month's budgets that concern the user; for operators also of everybody's."""

    budgets: Sequence[Spent]
    for_a_run: Spent | None


def spending(user: User) -> Spending:
    found = list(model_access.spent(user.pk))
    shown = (BudgetScope.USER, BudgetScope.SITE) if user.is_operator else (BudgetScope.USER,)
    for_a_run = next((one for one in found if one.scope == BudgetScope.RUN), None)
    return Spending([one for one in found if one.scope in shown], for_a_run)


def keys(user: User, tried: KeyForm | None = None) -> Keys:
    """`tried` is a form that was refused: it stands in its own row, with what was typed but the secret."""
    kept = {(row.provider, row.owner_id is None): row for row in Credential.objects.usable_by(user).defer("secret_encrypted")}
    agents = offers.adapters()

    def row(provider: Provider, *, is_sites: bool) -> KeyRow:
        in_environment = "environment" if model_access.is_in_environment(provider) else ""
        credential = kept.get((provider, is_sites))
        return KeyRow(
            provider,
            credentials.LABELS[provider],
            credential,
            in_environment if is_sites or (provider, True) not in kept else "site",
            [agent.label for agent in agents if provider in agent.providers],
            _form(provider, is_sites, credential, tried),
            is_sites,
        )

    return Keys(
        own=[row(provider, is_sites=False) for provider in Provider],
        sites=[row(provider, is_sites=True) for provider in Provider] if user.is_operator else [],
    )


def _form(provider: Provider, is_sites: bool, credential: Credential | None, tried: KeyForm | None) -> KeyForm:
    if tried is not None and (tried.data.get("provider"), bool(tried.data.get("for_site"))) == (provider, is_sites):
        form = tried
    else:
        kept = {"kind": credential.kind, "base_url": credential.base_url} if credential else {}
        form = KeyForm(initial={"provider": provider, "for_site": is_sites} | kept)
    form.auto_id = f"key-{provider}-{'site' if is_sites else 'own'}-%s"
    form.fields["secret"].widget.attrs["placeholder"] = WHERE[provider][1]
    form.fields["base_url"].widget.attrs["placeholder"] = APIS[provider].base_url
    return form
