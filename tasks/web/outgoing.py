"""The pages of what programs and people elsewhere are told: webhooks, each with its log, and e-mail."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from tasks import outgoing
from tasks.errors import AppError
from tasks.models import OutgoingDelivery, OutgoingEvent, OutgoingWebhook, User
from tasks.models.outgoing import ABOUT_RUNS
from tasks.web.access import Request
from tasks.web.forms import VerbForm

MOST_SHOWN = 50  # messages of a log
_MAILS = [(event.value, event.label) for event in ABOUT_RUNS]


class WebhookForm(VerbForm):
    url = forms.CharField(
        max_length=outgoing.MOST_URL,
        widget=forms.TextInput(
            attrs={"inputmode": "url", "autocomplete": "off", "spellcheck": "false", "placeholder": "https://example.org/hooks/asynccode"}
        ),
        error_messages={"required": "Give the address that is to be told."},
    )
    events = forms.MultipleChoiceField(choices=OutgoingEvent.choices, required=False, widget=forms.CheckboxSelectMultiple)

    @sensitive_variables()
    def submit(self, *, by: User) -> tuple[OutgoingWebhook, str] | None:
        return self.attempt(lambda: outgoing.add(by=by, **self.cleaned_data))


class ChangeForm(WebhookForm):
    is_active = forms.BooleanField(required=False, label="Send messages to it")

    def save(self, *, webhook: OutgoingWebhook, by: User) -> bool:
        self.attempt(lambda: outgoing.change(webhook=webhook, by=by, **self.cleaned_data))
        return not self.errors


class MailsForm(VerbForm):
    events = forms.MultipleChoiceField(choices=_MAILS, required=False, widget=forms.CheckboxSelectMultiple)

    def submit(self, *, user: User) -> bool:
        self.attempt(lambda: outgoing.set_mails(user=user, **self.cleaned_data))
        return not self.errors


@dataclass(frozen=True)
class Told:
    """One message as its log shows it."""

    row: OutgoingDelivery

    @property
    def payload(self) -> str:
        return json.dumps({"id": self.row.key, **self.row.payload}, indent=2)

    @property
    def name(self) -> str:
        return dict(OutgoingEvent.choices).get(self.row.event, "A message to try it")


def _log(deliveries: QuerySet[OutgoingDelivery]) -> list[Told]:
    return [Told(row) for row in deliveries.order_by("-pk")[:MOST_SHOWN]]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@sensitive_variables("made")
def page(request: Request) -> HttpResponse:
    """All webhooks, on POST with a new one, whose secret is shown this once."""
    if request.method != "POST":
        return _page(request)
    form = WebhookForm(request.POST, auto_id="webhook_%s")
    made = form.submit(by=request.user)
    if made is None:
        return _page(request, form=form, status=422)
    return _page(request, new=made[0], secret=made[1])


@never_cache
@require_POST
@login_required
def mails(request: Request) -> HttpResponse:
    form = MailsForm(request.POST, auto_id="mails_%s")
    if form.submit(user=request.user):
        messages.success(request, "Your choice of e-mails is saved.")
        return redirect("outgoing")
    return _page(request, mails=form, status=422)


def _page(request: Request, *, status: int = 200, **context: Any) -> HttpResponse:
    shown = {
        "webhooks": OutgoingWebhook.objects.visible_to(request.user),
        "form": WebhookForm(auto_id="webhook_%s", initial={"events": OutgoingEvent.values}),
        "mails": MailsForm(auto_id="mails_%s", initial={"events": request.user.email_events}),
        "sends_email": settings.SENDS_EMAIL,
        "log": _log(OutgoingDelivery.objects.visible_to(request.user).filter(webhook=None)),
    }
    return render(request, "tasks/outgoing.html", shown | context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def webhook(request: Request, pk: int) -> HttpResponse:
    """One with its log; changed on POST."""
    found = _find(request, pk)
    if request.method == "POST":
        form = ChangeForm(request.POST, auto_id="webhook_%s")
        if form.save(webhook=found, by=request.user):
            messages.success(request, "The webhook is saved.")
            return redirect("outgoing-webhook", pk)
    else:
        initial = {"url": found.url, "events": found.events, "is_active": found.is_active}
        form = ChangeForm(initial=initial, auto_id="webhook_%s")
    context = {"webhook": found, "form": form, "log": _log(found.deliveries.all())}
    return render(request, "tasks/outgoing_webhook.html", context, status=422 if form.errors else 200)


@require_POST
@login_required
def test(request: Request, pk: int) -> HttpResponse:
    outgoing.test(webhook=_find(request, pk), by=request.user)
    messages.success(request, "A message is on its way. What became of it stands below in a moment.")
    return redirect("outgoing-webhook", pk)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def remove(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = _find(request, pk)
    if request.method == "POST":
        outgoing.remove(webhook=found, by=request.user)
        messages.success(request, "The webhook is removed.")
        return redirect("outgoing")
    question = {
        "question": "Remove this webhook?",
        "consequence": f"{found.url} is told nothing any more. Its log and its secret go with it.",
        "verb": "Remove",
        "back": reverse("outgoing-webhook", args=[pk]),
    }
    return render(request, "tasks/confirm.html", question)


@require_POST
@login_required
def send_again(request: Request, pk: int) -> HttpResponse:
    found = get_object_or_404(OutgoingDelivery.objects.visible_to(request.user), pk=pk)
    try:
        outgoing.send_again(delivery=found, by=request.user)
        messages.success(request, "It is sent again.")
    except AppError as error:
        messages.error(request, error.message)
    return redirect("outgoing-webhook", found.webhook_id) if found.webhook_id else redirect("outgoing")


def _find(request: Request, pk: int) -> OutgoingWebhook:
    return get_object_or_404(OutgoingWebhook.objects.visible_to(request.user), pk=pk)
