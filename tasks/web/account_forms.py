"""The forms of an account: signing in, and each section of the settings."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import authenticate

from tasks import accounts, tokens
from tasks.models import ApiToken, Notify, Scope, Theme, User
from tasks.web.forms import VerbForm

DAYS = [*((str(days), f"{days} days" if days < 365 else "A year") for days in tokens.EXPIRY_DAYS), ("", "Never")]


def _password(kind: str, required: str) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": kind})
    return forms.CharField(strip=False, max_length=accounts.MOST_PASSWORD, widget=widget, error_messages={"required": required})


class SignInForm(forms.Form):
    """Username and password. What is wrong is never said of one of the two."""

    username = forms.CharField(
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false", "autofocus": True}),
        error_messages={"required": "Type your username."},
    )
    password = _password("current-password", "Type your password.")
    user: User | None = None

    def clean(self) -> dict[str, Any]:
        """Asks Django's backends, which take as long for a name that nobody has."""
        if not self.errors:
            self.user = authenticate(username=self.cleaned_data["username"], password=self.cleaned_data["password"])
            if self.user is None:
                del self.fields["username"].widget.attrs["autofocus"]
                self.fields["password"].widget.attrs["autofocus"] = True
                raise forms.ValidationError("Username and password do not belong together. Try again, or ask an operator for a link.")
        return self.cleaned_data


class ProfileForm(VerbForm):
    display_name = forms.CharField(required=False, max_length=accounts.MOST_NAME, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    email = forms.CharField(required=False, max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"}))

    def submit(self, *, user: User) -> bool:
        self.attempt(lambda: accounts.update_profile(user=user, **self.cleaned_data))
        return not self.errors


class ThemeForm(VerbForm):
    theme = forms.ChoiceField(choices=Theme.choices, widget=forms.RadioSelect)

    def submit(self, *, user: User) -> bool:
        self.attempt(lambda: accounts.set_theme(user=user, **self.cleaned_data))
        return not self.errors


class NotifyForm(VerbForm):
    notify = forms.ChoiceField(choices=Notify.choices, widget=forms.RadioSelect)

    def submit(self, *, user: User) -> bool:
        self.attempt(lambda: accounts.set_notify(user=user, **self.cleaned_data))
        return not self.errors


class PasswordForm(VerbForm):
    old_password = _password("current-password", "Type the password that you have.")
    new_password = _password("new-password", "Type a new password.")
    again = _password("new-password", "Type the new password once more.")

    def clean_again(self) -> str:
        again: str = self.cleaned_data["again"]
        if self.cleaned_data.get("new_password", again) != again:
            raise forms.ValidationError("This is not what stands above. Type both once more.")
        return again

    def submit(self, *, user: User) -> bool:
        old, new = "old_password", "new_password"
        self.attempt(lambda: accounts.change_password(user=user, old=self.cleaned_data[old], new=self.cleaned_data[new]))
        return not self.errors


class TokenForm(VerbForm):
    name = forms.CharField(
        max_length=tokens.MOST_NAME,
        widget=forms.TextInput(attrs={"placeholder": "Nightly script", "autocomplete": "off"}),
        error_messages={"required": "Give the token a name, so that you know it again."},
    )
    scope = forms.ChoiceField(choices=Scope.choices, initial=Scope.READ, widget=forms.RadioSelect)
    expires_in_days = forms.TypedChoiceField(choices=DAYS, initial="90", coerce=int, empty_value=None, required=False)

    def submit(self, *, user: User) -> tuple[ApiToken, str] | None:
        return self.attempt(lambda: tokens.create_token(user=user, **self.cleaned_data))
