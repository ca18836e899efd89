"""What is stored: one noun a file."""

from tasks.models.account import LoginLink, Notify, Theme, User
from tasks.models.attachment import Attachment
from tasks.models.event import Event, EventKind
from tasks.models.operation import Operation, OperationStatus
from tasks.models.patch import Patch, PatchKind
from tasks.models.prompt_template import PromptTemplate
from tasks.models.pull_request import PullRequest, PullRequestState
from tasks.models.repo import NetworkPreset, Phase, Repo, Variable
from tasks.models.run import ACTIVE, FINAL, Run, RunStatus, Stage, Turn
from tasks.models.sandbox import Sandbox, SandboxStatus
from tasks.models.task import Mode, Task
from tasks.models.token import ApiToken, Scope

__all__ = [
    "ACTIVE",
    "FINAL",
    "ApiToken",
    "Attachment",
    "Event",
    "EventKind",
    "LoginLink",
    "Mode",
    "NetworkPreset",
    "Notify",
    "Operation",
    "OperationStatus",
    "Patch",
    "PatchKind",
    "Phase",
    "PromptTemplate",
    "PullRequest",
    "PullRequestState",
    "Repo",
    "Run",
    "RunStatus",
    "Sandbox",
    "SandboxStatus",
    "Scope",
    "Stage",
    "Task",
    "Theme",
    "Turn",
    "User",
    "Variable",
]
