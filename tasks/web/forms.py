"""Forms: what is typed becomes the arguments of one verb, and what the verb refuses is shown where it was typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django import forms
from django.utils.datastructures import MultiValueDict

from tasks import attachments, services
from tasks.errors import AppError
from tasks.models import Attachment, Run, Turn, User

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


class FollowUpForm(WithFiles):
    prompt = ScriptField(rows=1, placeholder="Follow up in the same workspace", error_messages={"required": "The follow-up is empty."})

    def submit(self, *, run: Run, by: User) -> Turn | None:
        files = self.store_files(by=by)
        return self.attempt(lambda: services.send_follow_up(run=run, by=by, prompt=self.cleaned_data["prompt"], attachments=files))
