"""Keys of model providers, in a user's settings: saved after a check, checked again, removed."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from tasks import credentials, limits
from tasks.models import Credential
from tasks.web import errors, key_forms
from tasks.web.access import Request
from tasks.web.settings_page import answer, confirmed, section


@section
def keys(request: Request) -> HttpResponse:
    """Save a key. Each try asks a provider, so they are counted."""
    if wait := limits.KEYS.take(str(request.user.pk)):
        return errors.too_many(request, wait)
    form = key_forms.KeyForm(request.POST)
    if (saved := form.submit(by=request.user)) is None:
        return answer(request, "keys", form, keys=key_forms.keys(request.user, form))
    return _said(request, f"{_named(saved)} is saved{'.' if saved.problem else ', and works.'}")


@require_POST
@login_required
def check(request: Request, pk: int) -> HttpResponse:
    """Ask the provider of a key again."""
    found = _kept(request, pk)
    if wait := limits.KEYS.take(str(request.user.pk)):
        return errors.too_many(request, wait)
    checked = credentials.check_credential(credential=found, by=request.user)
    return _said(request, f"{_named(checked)} {'was asked about again.' if checked.problem else 'works.'}")


@login_required
def remove(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = _kept(request, pk)

    def delete() -> str:
        credentials.delete_credential(credential=found, by=request.user)
        return f"{_named(found)} is removed."

    whose = "Everybody's agents" if found.owner_id is None else "Your agents"
    consequence = f"{whose} do not work with it any more, those that are at work now included. It cannot be brought back from here."
    return confirmed(request, "keys", delete, question=f"Remove {_named(found, 'the', 'your')}?", consequence=consequence, verb="Remove")


def _said(request: Request, said: str) -> HttpResponse:
    return answer(request, "keys", key_forms.KeyForm(), said)


def _kept(request: Request, pk: int) -> Credential:
    return get_object_or_404(Credential.objects.kept_by(request.user), pk=pk)


def _named(credential: Credential, the: str = "The", your: str = "Your") -> str:
    label = credential.get_provider_display()
    return f"{the} site’s key of {label}" if credential.owner_id is None else f"{your} key of {label}"
