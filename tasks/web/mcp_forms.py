"""What the page of a repository has of its servers of the Model Context Protocol: the form, and each as a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms

from tasks import mcp_servers
from tasks.models import Repo, RepoMcpServer, User
from tasks.web.forms import ScriptField, VerbForm

_PLAIN = {"autocapitalize": "off", "autocomplete": "off", "spellcheck": "false"}


@dataclass(frozen=True)
class McpServerRow:
    """A server; `missing` is the host that the repository's network lacks for it, `refusal` why adding that would not help."""

    server: RepoMcpServer
    missing: str
    refusal: str

    @classmethod
    def all_of(cls, repo: Repo) -> list[McpServerRow]:
        return [cls(server, *cls._reach(repo, server)) for server in RepoMcpServer.objects.filter(repo=repo)]

    @staticmethod
    def _reach(repo: Repo, server: RepoMcpServer) -> tuple[str, str]:
        missing = mcp_servers.missing_host(repo, server)
        return missing, mcp_servers.unreachable(server) if missing else ""

    @property
    def where(self) -> str:
        return self.server.url or mcp_servers.command_line(self.server.command)


class McpServerForm(VerbForm):
    """A server, new or changed. `changes` says that it is there already, so that its name stays."""

    kind = forms.ChoiceField(
        choices=[("url", "At a URL"), ("command", "A command in the sandbox")], initial="url", required=False, widget=forms.RadioSelect
    )
    name = forms.CharField(
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "issue-tracker"}), error_messages={"required": "Give the server a name."}
    )
    url = forms.CharField(required=False, widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "https://example.org/mcp"}))
    command = forms.CharField(required=False, widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "npx -y some-mcp-server"}))
    env = ScriptField(rows=2, required=False, placeholder="LEVEL=info")
    changes = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.auto_id = "mcp-%s"
        if self["changes"].value():
            self.auto_id = "mcp-change-%s"  # the form for a new one is on the same page

    @classmethod
    def of(cls, server: RepoMcpServer) -> McpServerForm:
        kind = "url" if server.url else "command"
        form = cls(
            initial={
                "changes": True,
                "kind": kind,
                "name": server.name,
                "url": server.url,
                "command": mcp_servers.command_line(server.command),
                "env": mcp_servers.env_lines(server.env),
            }
        )
        form.fields[kind].widget.attrs["autofocus"] = True
        return form

    def clean(self) -> None:
        if self.cleaned_data.get("kind") == "command":
            self.cleaned_data["url"] = ""  # what was typed before the choice stays in the form, but is not meant
            if not self.cleaned_data.get("command"):
                self.add_error("command", "Give the command that starts the server.")
        else:
            self.cleaned_data["command"] = self.cleaned_data["env"] = ""
            if not self.cleaned_data.get("url"):
                self.add_error("url", "Give the server's URL.")

    def add_error(self, field: str | None, error: Any) -> None:
        super().add_error(field, error.split("\n") if isinstance(error, str) else error)

    def submit(self, *, repo: Repo, by: User) -> RepoMcpServer | None:
        typed = ("name", "url", "command", "env")
        return self.attempt(lambda: mcp_servers.set_mcp_server(repo=repo, by=by, **{name: self.cleaned_data[name] for name in typed}))
