"""What is stored: one noun a file."""

from tasks.models.account import DiffForm, DiffWhitespace, LoginLink, Notify, Theme, User, allows_test_users, welcome
from tasks.models.agent import AgentModel, AgentSetting, Preset, RepoMcpServer
from tasks.models.artifact import Artifact
from tasks.models.attachment import Attachment
from tasks.models.audit import AuditEntry, AuditKind
from tasks.models.capacity import CreationBucket
from tasks.models.check import Check, CheckStatus, Verdict
from tasks.models.comment import Comment, CommentSide
from tasks.models.conversation import Conversation
from tasks.models.credential import Credential, CredentialKind
from tasks.models.environment import PreparedEnvironment, PreparedStatus
from tasks.models.event import Event, EventKind
from tasks.models.github import Delivery, DeliveryStatus, GitHubAccount, GitHubCredentialKind
from tasks.models.github_app import GitHubApp
from tasks.models.github_request import GitHubRequest, GitHubRequestKind, GitHubRequestState
from tasks.models.heartbeat import Beats, Heartbeat
from tasks.models.idempotency import IdempotencyKey
from tasks.models.operation import Operation, OperationStatus
from tasks.models.outgoing import OutgoingDelivery, OutgoingEvent, OutgoingState, OutgoingWebhook
from tasks.models.patch import Patch, PatchKind
from tasks.models.prompt_template import PromptTemplate
from tasks.models.pull_request import Publication, PullRequest, PullRequestState
from tasks.models.pull_review import PullReview
from tasks.models.quota import Quota, QuotaScope
from tasks.models.repo import FromGitHub, NetworkPreset, Phase, Repo, Variable
from tasks.models.run import ACTIVE, FINAL, UNFINISHED, EndReason, Run, RunStatus, Stage, Turn, TurnKind
from tasks.models.sandbox import Sandbox, SandboxStatus
from tasks.models.spending import Budget, BudgetScope, ModelCall, Price
from tasks.models.task import Mode, Task
from tasks.models.token import ApiToken, Scope
from tasks.models.viewed import Viewed

__all__ = [
    "ACTIVE",
    "FINAL",
    "UNFINISHED",
    "AgentModel",
    "AgentSetting",
    "ApiToken",
    "Artifact",
    "Attachment",
    "AuditEntry",
    "AuditKind",
    "Beats",
    "Budget",
    "BudgetScope",
    "Check",
    "CheckStatus",
    "Comment",
    "CommentSide",
    "Conversation",
    "CreationBucket",
    "Credential",
    "CredentialKind",
    "Delivery",
    "DeliveryStatus",
    "DiffForm",
    "DiffWhitespace",
    "EndReason",
    "Event",
    "EventKind",
    "FromGitHub",
    "GitHubAccount",
    "GitHubApp",
    "GitHubCredentialKind",
    "GitHubRequest",
    "GitHubRequestKind",
    "GitHubRequestState",
    "Heartbeat",
    "IdempotencyKey",
    "LoginLink",
    "Mode",
    "ModelCall",
    "NetworkPreset",
    "Notify",
    "Operation",
    "OperationStatus",
    "OutgoingDelivery",
    "OutgoingEvent",
    "OutgoingState",
    "OutgoingWebhook",
    "Patch",
    "PatchKind",
    "Phase",
    "PreparedEnvironment",
    "PreparedStatus",
    "Preset",
    "Price",
    "PromptTemplate",
    "Publication",
    "PullRequest",
    "PullRequestState",
    "PullReview",
    "Quota",
    "QuotaScope",
    "Repo",
    "RepoMcpServer",
    "Run",
    "RunStatus",
    "Sandbox",
    "SandboxStatus",
    "Scope",
    "Stage",
    "Task",
    "Theme",
    "Turn",
    "TurnKind",
    "User",
    "Variable",
    "Verdict",
    "Viewed",
    "allows_test_users",
    "welcome",
]
