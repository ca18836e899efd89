"""What the API takes and gives, one resource a file. Times are ISO 8601 in UTC, money is USD, durations are seconds."""

from tasks.api.schemas.account import Me
from tasks.api.schemas.agents import Agent, Agents, Model
from tasks.api.schemas.artifacts import Artifact, Artifacts
from tasks.api.schemas.attachments import Attachment, Attachments
from tasks.api.schemas.comments import Comment, Comments, CommentText, NewComment, SentComments
from tasks.api.schemas.comparisons import Cell, Compared, ComparedFile, Comparison
from tasks.api.schemas.events import Event, Events
from tasks.api.schemas.patches import LeftOut, Patch, Patches, PatchFigures, PatchFile
from tasks.api.schemas.pulls import Conflict, Merge, NewPullRequest, Publication, PullRequest, PullRequests, PullRequestUpdate
from tasks.api.schemas.repos import Mirror, NewRepo, NewVariable, Repo, RepoChanges, Repos, Variable, Variables
from tasks.api.schemas.runs import ApprovedPlan, Choice, NewBranch, Revert, Run, Runs
from tasks.api.schemas.tasks import AgentChoice, NewFollowUps, NewTask, Task, TaskRepo, Tasks, WholeTask
from tasks.api.schemas.turns import NewFollowUp, Turn, Turns
from tasks.api.schemas.usage import Usage, Usages
from tasks.api.schemas.webhooks import Deliveries, Delivery, Webhook, Webhooks

__all__ = [
    "Agent",
    "AgentChoice",
    "Agents",
    "ApprovedPlan",
    "Artifact",
    "Artifacts",
    "Attachment",
    "Attachments",
    "Cell",
    "Choice",
    "Comment",
    "CommentText",
    "Comments",
    "Compared",
    "ComparedFile",
    "Comparison",
    "Conflict",
    "Deliveries",
    "Delivery",
    "Event",
    "Events",
    "LeftOut",
    "Me",
    "Merge",
    "Mirror",
    "Model",
    "NewBranch",
    "NewComment",
    "NewFollowUp",
    "NewFollowUps",
    "NewPullRequest",
    "NewRepo",
    "NewTask",
    "NewVariable",
    "Patch",
    "PatchFigures",
    "PatchFile",
    "Patches",
    "Publication",
    "PullRequest",
    "PullRequestUpdate",
    "PullRequests",
    "Repo",
    "RepoChanges",
    "Repos",
    "Revert",
    "Run",
    "Runs",
    "SentComments",
    "Task",
    "TaskRepo",
    "Tasks",
    "Turn",
    "Turns",
    "Usage",
    "Usages",
    "Variable",
    "Variables",
    "Webhook",
    "Webhooks",
    "WholeTask",
]
