"""Forms: what is typed becomes the arguments of one verb, and what the verb refuses is shown where it was typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django import forms
from django.forms.utils import flatatt
from django.utils.datastructures import MultiValueDict
from django.utils.html import format_html
from django.utils.safestring import SafeString

from agents.registry import ADAPTERS
from tasks import attachments, services, turns
from tasks.errors import AppError
from tasks.models import Attachment, Mode, Run, Turn, TurnKind, User

Result = TypeVar("Result")


class VerbForm(forms.Form):
    """A form for one verb. `fields_of_errors` says which field shows an error that the verb puts to another name."""

    fields_of_errors: dict[str, str] = {}

    def attempt(self, verb: Callable[[], Result]) -> Result | None:
        """What `verb` gives; None when the form is not valid or the verb refused, and then `errors` says why."""
        if not self.is_valid():
            return None
        try:
            return verb()
        except AppError as error:
            name = getattr(error, "field", "")
            name = self.fields_of_errors.get(name, name)
            self.add_error(name if name in self.fields else None, error.message)
            return None


class NumberWidget(forms.NumberInput):
    """The same without a template, for a form with dozens of them."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        shown = self.format_value(value)
        given = {"type": self.input_type, "name": name, **({} if shown is None else {"value": shown})}
        return format_html("<input{}>", flatatt({**given, **self.build_attrs(self.attrs, attrs)}))


class ScriptField(forms.CharField):
    """Text of several lines, kept as it was typed; browsers send line ends as CR LF."""

    def __init__(self, *, rows: int, placeholder: str = "", **options: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows, "placeholder": placeholder, "spellcheck": "false"})
        super().__init__(strip=False, widget=widget, **options)

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n")


class WithFiles(VerbForm):
    """A form whose prompt may have files: ids of those stored before (`attachments`), and those that come along (`files`).

    `attached` are those that are stored, for the page that shows the form again.
    """

    attachments = forms.Field(required=False)
    attached: list[Attachment] = []

    def store_files(self, *, by: User) -> list[Attachment]:
        """Store what came along, whatever else is wrong with the form, so that nobody has to choose it again."""
        ids = self._list(self.data, "attachments")
        self.attached = attachments.chosen(by=by, ids=ids)
        if len(self.attached) < len(set(ids)):
            self.add_error("attachments", attachments.GONE)
        try:
            self.attached += attachments.store(by=by, files=self._list(self.files, "files"))
        except AppError as error:
            self.add_error("attachments", error.message)
        return self.attached

    @staticmethod
    def _list(data: Any, name: str) -> list[Any]:
        return data.getlist(name) if isinstance(data, MultiValueDict) else []


def modes_of(agents: Iterable[str]) -> list[tuple[str, str]]:
    """The modes that at least one of these agents can, as choices."""
    able = {mode for name in agents if (adapter := ADAPTERS.get(name)) for mode in adapter.modes}
    return [(mode.value, mode.label) for mode in Mode if mode in able]


def can_steer(run: Run) -> bool:
    """Whether the run's agent takes messages while a turn is at work."""
    return run.agent in ADAPTERS and ADAPTERS[run.agent].can_steer


def mode_field() -> forms.ChoiceField:
    return forms.ChoiceField(
        required=False, label="Mode", error_messages={"invalid_choice": "The agent cannot work in this mode. Choose another one."}
    )


class FollowUpForm(WithFiles):
    """`mode` is what the page's address asks for; else it stands at that of the newest turn. What is sent as "now" does not wait
    for the turn at work."""

    prompt = ScriptField(rows=1, placeholder="Follow up in the same workspace", error_messages={"required": "The follow-up is empty."})
    mode = mode_field()

    def __init__(self, *args: Any, run: Run, mode: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.run = run
        choices = modes_of([run.agent])
        self.fields["mode"].choices = choices  # type: ignore[attr-defined]
        self.has_modes = len(choices) > 1
        if not self.is_bound and self.has_modes:
            is_asked = mode in dict(choices)
            self.initial["mode"] = mode if is_asked else self._last_mode()
            if is_asked:
                self.fields["prompt"].widget.attrs["autofocus"] = True

    def _last_mode(self) -> str | None:
        asked = [turn.mode for turn in self.run.turns.all() if turn.kind != TurnKind.REVERT]  # in their order
        return asked[-1] if asked else None

    def submit(self, *, by: User) -> bool:
        """Whether it was sent."""
        files = self.store_files(by=by)
        verb: Callable[..., Turn | str] = turns.stop_and_send if "now" in self.data else services.send_follow_up
        sent = self.attempt(
            lambda: verb(run=self.run, by=by, prompt=self.cleaned_data["prompt"], attachments=files, mode=self.cleaned_data["mode"])
        )
        return sent is not None
