"""Prompt templates: their page, and the composer's picker."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRedirect, reswap, trigger_client_event

from tasks import prompt_templates
from tasks.models import PromptTemplate, User
from tasks.prompt_templates import NameTaken
from tasks.services import title_of
from tasks.web.access import Request
from tasks.web.forms import ScriptField, VerbForm

MOST_PICKED = 50  # shown at once in the picker


class TemplateForm(VerbForm):
    """A name and a prompt. `is_name_taken`: the name is another template's, and the user is asked whether to replace that."""

    name = forms.CharField(
        max_length=prompt_templates.MOST_NAME,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Add tests"}),
        error_messages={"required": "Give the template a name."},
    )
    prompt = ScriptField(rows=6, error_messages={"required": "The prompt is empty. Write what you begin with again and again."})
    is_replacing = forms.BooleanField(required=False)
    is_name_taken = False

    def submit(self, *, by: User, template: PromptTemplate | None = None) -> PromptTemplate | None:
        return self.attempt(lambda: self._save(by, template))

    def _save(self, by: User, template: PromptTemplate | None) -> PromptTemplate:
        try:
            return prompt_templates.save_template(by=by, template=template, **self.cleaned_data)
        except NameTaken:
            self.is_name_taken = True
            raise


def initial_of(request: Request) -> dict[str, str]:
    """What the composer begins with when a template is chosen by `?template=ID`."""
    pk = request.GET.get("template", "")
    chosen = PromptTemplate.objects.visible_to(request.user).filter(pk=int(pk)).first() if pk.isdecimal() and len(pk) <= 18 else None
    return {"prompt": chosen.prompt} if chosen else {}


def _template(request: Request, pk: int) -> PromptTemplate:
    return get_object_or_404(PromptTemplate.objects.visible_to(request.user), pk=pk)


@login_required
@require_safe
def prompts(request: Request) -> HttpResponse:
    return render(request, "tasks/prompts.html", {"templates": PromptTemplate.objects.visible_to(request.user)})


@login_required
def new(request: Request) -> HttpResponse:
    """A template to fill in. A prompt that is posted without a name comes from the composer: it asks for the name."""
    if request.method != "POST" or "name" not in request.POST:
        prompt = request.POST.get("prompt", "").replace("\r\n", "\n")
        return _form(request, TemplateForm(initial={"prompt": prompt, "name": title_of(prompt)[:100] if prompt.strip() else ""}))
    form = TemplateForm(request.POST)
    saved = form.submit(by=request.user)
    return _saved(request, saved) if saved else _form(request, form)


@login_required
def prompt(request: Request, pk: int) -> HttpResponse:
    found = _template(request, pk)
    if request.method != "POST":
        return _form(request, TemplateForm(initial={"name": found.name, "prompt": found.prompt}), template=found)
    form = TemplateForm(request.POST)
    saved = form.submit(by=request.user, template=found)
    return _saved(request, saved) if saved else _form(request, form, template=found)


def _form(request: Request, form: TemplateForm, **context: Any) -> HttpResponse:
    page = "tasks/prompts.html#dialog" if request.htmx else "tasks/prompts.html"
    return render(request, page, {"form": form, **context}, status=422 if form.errors else 200)


def _saved(request: Request, saved: PromptTemplate) -> HttpResponse:
    if request.htmx:  # from the composer's dialog, which closes
        return reswap(trigger_client_event(HttpResponse(status=201), "template-saved", {"name": saved.name}), "none")
    messages.success(request, f"“{saved.name}” is saved.")
    return redirect("prompts")


@login_required
def remove(request: Request, pk: int) -> HttpResponse:
    """The question on GET, the deed on POST."""
    found = _template(request, pk)
    if request.method == "POST":
        prompt_templates.remove_template(by=request.user, template=found)
        return HttpResponseClientRedirect(reverse("prompts")) if request.htmx else redirect("prompts")
    context = {"question": f"Remove “{found.name}”?", "consequence": "The prompt is deleted. Tasks begun from it stay as they are."}
    page = "tasks/confirm.html#question" if request.htmx else "tasks/confirm.html"
    return render(request, page, context | {"verb": "Remove", "back": reverse("prompts")})


@login_required
@require_safe
def pick(request: Request) -> HttpResponse:
    """The picker's list: templates in whose name or prompt each word of `q` occurs."""
    found = PromptTemplate.objects.visible_to(request.user)
    for word in request.GET.get("q", "").replace("\0", "").split()[:10]:
        found = found.filter(name__icontains=word) | found.filter(prompt__icontains=word)
    context = {"templates": found[:MOST_PICKED], "query": request.GET.get("q", "").strip()}
    return render(request, "tasks/prompt_templates.html#list", context)


@login_required
@require_safe
def text(request: Request, pk: int) -> HttpResponse:
    return HttpResponse(_template(request, pk).prompt, content_type="text/plain; charset=utf-8")
