"""Repositories, with the environment that sandboxes get."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tasks.api.paging import Page
from tasks.api.schemas.inputs import Input, Name, Text
from tasks.models import NetworkPreset


class Mirror(BaseModel):
    """How far our copy of a repository is."""

    status: Literal["queued", "running", "succeeded", "failed"]
    percent: int
    progress: str
    error: str


class Repo(BaseModel):
    id: int
    name: str
    source: str = Field(examples=["https://github.com/acme/shop"])
    default_branch: str
    setup_script: str
    check_command: str
    network_preset: NetworkPreset
    network_hosts: list[str]
    template: str
    created_at: datetime
    mirrored_at: datetime | None = Field(description="null while the first copy is being made; tasks wait for it.")
    mirror: Mirror | None


class Repos(Page):
    items: list[Repo]


class NewRepo(Input):
    source: Name = Field(description="An https URL; for operators also a path on the server.", examples=["https://github.com/acme/shop"])


class RepoChanges(Input):
    """What is not sent stays as it is."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    setup_script: Text | None = None
    check_command: Text | None = None
    network_preset: Literal["none", "registries", "public"] | None = None
    network_hosts: Annotated[list[str], Field(max_length=200)] | None = None


class Variable(BaseModel):
    """An environment variable. The value of a secret is never told."""

    name: str
    value: str | None = Field(description="null of a secret.")
    is_secret: bool
    phase: Literal["setup", "agent"] = Field(description="setup: in the setup script only.")


class Variables(BaseModel):
    items: list[Variable]


class NewVariable(Input):
    value: Annotated[str, Field(max_length=32_000, pattern=r"^[^\x00]*$")]
    is_secret: bool = False
    phase: Literal["setup", "agent"] = "agent"
