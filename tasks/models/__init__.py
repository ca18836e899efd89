"""What is stored: one noun a file."""

from tasks.models.account import LoginLink, User
from tasks.models.event import Event, EventKind
from tasks.models.operation import Operation, OperationStatus
from tasks.models.patch import Patch, PatchKind
from tasks.models.repo import NetworkPreset, Phase, Repo, Variable
from tasks.models.run import ACTIVE, FINAL, Run, RunStatus, Stage, Turn
from tasks.models.sandbox import Sandbox, SandboxStatus
from tasks.models.task import Mode, Task

__all__ = [
    "ACTIVE",
    "FINAL",
    "Event",
    "EventKind",
    "LoginLink",
    "Mode",
    "NetworkPreset",
    "Operation",
    "OperationStatus",
    "Patch",
    "PatchKind",
    "Phase",
    "Repo",
    "Run",
    "RunStatus",
    "Sandbox",
    "SandboxStatus",
    "Stage",
    "Task",
    "Turn",
    "User",
    "Variable",
]
