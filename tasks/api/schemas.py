"""What the API takes and gives. Times are ISO 8601 in UTC, money is USD, durations are seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.api.paging import BIGGEST, Page
from tasks.choices import MOST_ATTEMPTS, MOST_PROMPT, MOST_STEPS
from tasks.models import CommentSide, EventKind, Mode, NetworkPreset, PatchKind, PullRequestState, RunStatus, TurnKind, Verdict

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Said = Annotated[str, Field(min_length=1, max_length=MOST_PROMPT, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Name = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00]*$")]
Number = Annotated[int, Field(ge=1, le=BIGGEST)]
ModeName = Literal["code", "plan", "ask"]


class Input(BaseModel):
    """A body. What it does not know is refused, so that a misspelled name does not go unnoticed."""

    model_config = ConfigDict(extra="forbid", strict=True)


# --- account and agents ------------------------------------------------------------------------------------------------------


class Me(BaseModel):
    """Whose token this is, and what it may do."""

    username: str
    is_operator: bool
    token: str = Field(description="The token's name.")
    scope: Literal["read", "write"]
    expires_at: datetime | None


class Model(BaseModel):
    name: str
    label: str


class Agent(BaseModel):
    """An agent that tasks can be given to. The first of its models is its default."""

    name: str = Field(examples=["shell"])
    label: str
    models: list[Model]
    modes: list[Mode]
    efforts: list[str]
    can_limit_turns: bool
    is_usable: bool
    why_not: str = Field(description="What to do before it can be used; empty when it can.")


class Agents(BaseModel):
    items: list[Agent]


class Usage(BaseModel):
    """What some turns took together."""

    key: str = Field(description="A day (2026-11-27), an agent, a model, or a user's name.")
    turns: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float | None = Field(description="null where no price is known.")


class Usages(BaseModel):
    items: list[Usage]


# --- repositories ------------------------------------------------------------------------------------------------------------


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


# --- runs --------------------------------------------------------------------------------------------------------------------


class PatchFigures(BaseModel):
    """How much a patch changes."""

    sha256: str
    is_final: bool = Field(description="false of one that was taken while the agent is at work.")
    files: int
    additions: int
    deletions: int


class PullRequest(BaseModel):
    """A pull request, as GitHub said last."""

    run: int
    repository: str
    number: int
    url: str
    branch: str
    base: str
    state: PullRequestState
    head_sha: str
    checks: str
    review: str
    mergeable: str
    created_at: datetime
    seen_at: datetime | None


class PullRequests(Page):
    items: list[PullRequest]


class Run(BaseModel):
    """One agent's attempt at a task."""

    id: int
    task: int
    url: str
    agent: str
    model: str = Field(description="Empty for the agent's default.")
    attempt: int
    backend: str
    branch: str
    status: RunStatus
    stage: str = Field(description="Where it is in its life, or was when it ended.")
    error: str
    error_class: str
    is_stopping: bool
    waits_for: str = Field(description="Of a run in the queue: why it has not started.")
    parent: int | None = Field(description="Of a branch, the run that it goes on from.")
    parent_turn: int | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    chosen_at: datetime | None
    set_aside_at: datetime | None
    events: int = Field(description="How many there are: the seq of the newest.")
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    patch: PatchFigures | None
    check: Verdict | None = Field(description="What the repository's check says of the patch.")
    pull_request: PullRequest | None


class Runs(Page):
    items: list[Run]


class Turn(BaseModel):
    """One exchange with the agent."""

    number: int
    kind: TurnKind
    mode: Mode
    prompt: str
    answer: str = Field(description="The agent's last message; of a plan turn, the plan.")
    status: RunStatus
    error_class: str
    author: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float | None


class Turns(Page):
    items: list[Turn]


class NewFollowUp(Input):
    prompt: Said
    mode: ModeName | None = Field(None, description="That of the newest turn, unless another is asked for.")
    is_urgent: bool = Field(False, description="Do not let it wait for the turn at work: the agent gets it now, or is stopped for it.")


class ApprovedPlan(Input):
    plan: Said = Field(description="The plan as it is to be carried out: the `answer` of the turn, edited or not.")


class NewBranch(Input):
    after: Number = Field(description="The number of the turn that it goes on from.")
    prompt: Said


class Revert(Input):
    to: Annotated[int, Field(ge=0, le=BIGGEST)] = Field(description="The turn whose changes are kept; 0: none.")


class Choice(Input):
    sets_others_aside: bool = Field(False, description="Stop the task's other runs and give their sandboxes back.")


# --- events ------------------------------------------------------------------------------------------------------------------


class Event(BaseModel):
    """One immutable record of a run. `data` depends on the kind."""

    seq: int
    turn: int | None = Field(description="The turn's number.")
    kind: EventKind
    at: datetime
    data: dict[str, Any]


class Events(BaseModel):
    """Some events in their order. A page may hold fewer than `limit`, since it is bounded in bytes too."""

    items: list[Event]
    last: int = Field(description="The seq to go on after.")
    next: str | None = Field(description="The address of the next page; null when there are no more yet.")


# --- patches and comparisons --------------------------------------------------------------------------------------------------


class PatchFile(BaseModel):
    path: str
    old_path: str | None
    state: Literal["added", "modified", "deleted", "renamed", "mode"]
    additions: int
    deletions: int
    is_binary: bool


class LeftOut(BaseModel):
    """A file that is not in the patch, and why."""

    path: str
    bytes: int | None = None
    reason: str = ""


class Patch(BaseModel):
    """What a run had changed since the base commit when a turn was over, or so far."""

    turn: int
    kind: PatchKind
    sha256: str
    additions: int
    deletions: int
    files: list[PatchFile]
    left_out: list[LeftOut]
    secrets_found: list[str] = Field(description="The names of the repository's secrets whose values are in the patch.")
    created_at: datetime


class Patches(BaseModel):
    items: list[Patch]


class Compared(BaseModel):
    """A run of a comparison, with its figures."""

    run: Run
    only: int = Field(description="Files that no other of these runs touched.")
    first_edit_s: float | None = Field(description="From its start to its first change of a file.")
    total_s: float | None = Field(description="What its turns took together.")
    conflicts: list[str] | None = Field(description="Files that conflict with the base branch as it is now; null where that is not known.")


class Cell(BaseModel):
    """What one run did to a file. Cells of a row with the same `letter` left the same content."""

    status: str
    path: str
    additions: int
    deletions: int
    is_binary: bool
    letter: str


class ComparedFile(BaseModel):
    """A row of the matrix: a cell for each run, in the order of `runs`; null where it did not touch the file."""

    path: str
    is_agreed: bool
    cells: list[Cell | None]


class Comparison(BaseModel):
    runs: list[Compared]
    files: list[ComparedFile]
    total: int = Field(description="Files in all, of which `files` are some.")
    agreed: int = Field(description="Files that all runs left with the same content.")
    shared: int = Field(description="Files that several runs touched.")
    next: str | None = Field(description="The address of the next files.")


# --- comments ---------------------------------------------------------------------------------------------------------------


class Comment(BaseModel):
    """What somebody said of lines of a changed file."""

    id: int
    path: str
    old_path: str
    side: CommentSide = Field(description="new: lines as they are after the change; old: before it.")
    start: int = Field(description="The first line, from 1.")
    end: int = Field(description="The last line, included.")
    quote: str
    body: str
    author: str
    is_draft: bool
    turn: int | None = Field(description="The number of the follow-up that it was sent with.")
    review: str = Field(description="The address of the review at GitHub that it became a part of; else empty.")
    created_at: datetime


class Comments(Page):
    items: list[Comment]


CommentBody = Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Line = Annotated[int, Field(ge=1, le=2**31 - 1)]


class NewComment(Input):
    path: Name = Field(description="Of the file, as the run has it now or as it was before.", examples=["shop/cart.py"])
    side: Literal["new", "old"] = "new"
    start: Line
    end: Line
    body: CommentBody


class CommentText(Input):
    body: CommentBody


class SentComments(Input):
    comments: Annotated[list[Number], Field(min_length=1, max_length=100)] = Field(description="Ids of your drafts on this run.")
    message: Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")] = Field("", description="What is said before them.")
    is_urgent: bool = False


# --- tasks -------------------------------------------------------------------------------------------------------------------


class AgentChoice(Input):
    agent: Name = Field(examples=["shell"])
    model: Annotated[str, Field(max_length=120)] = Field("", description="Empty for the agent's default.")
    attempts: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS)] = 1
    effort: Annotated[str, Field(max_length=20)] | None = None
    max_turns: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None


class NewTask(Input):
    repo: Number | Name = Field(description="The id of a repository, or the source of one, which is added if it is new.", examples=[1])
    prompt: Said = Field(examples=["Add a --verbose option"])
    agents: Annotated[list[AgentChoice], Field(min_length=1, max_length=20)]
    branch: Annotated[str, Field(max_length=250)] = Field("", description="The base branch; empty for the repository's default.")
    mode: ModeName = "code"
    backend: Literal["", "local", "e2b"] = Field("", description="Where sandboxes are made; empty for the usual place.")


class TaskRepo(BaseModel):
    id: int
    name: str


class Task(BaseModel):
    """What somebody wants, with the runs that try it."""

    id: int
    url: str
    repo: TaskRepo
    title: str
    mode: Mode
    base_branch: str
    base_commit: str = Field(description="Empty while the repository is copied for the first time.")
    created_at: datetime
    archived_at: datetime | None
    origin: str = Field(description="The address at GitHub where it was asked for; else empty.")
    is_restricted: bool
    runs: list[Run]


class WholeTask(Task):
    prompt: str


class Tasks(Page):
    items: list[Task]


class NewFollowUps(Input):
    runs: Annotated[list[Number], Field(min_length=1, max_length=100)]
    prompt: Said
    mode: ModeName | None = None


# --- pull requests ------------------------------------------------------------------------------------------------------------


class Conflict(BaseModel):
    path: str
    text: str = ""


class Publication(BaseModel):
    """How far a run is on its way to GitHub."""

    run: int
    branch: str
    is_at_work: bool
    error: str
    error_code: str
    conflicts: list[Conflict]
    refused: list[str] = Field(description="Sentences on labels and reviewers that GitHub refused.")
    pull_request: PullRequest | None = Field(description="null until it is open.")


class NewPullRequest(Input):
    title: Annotated[str, Field(max_length=250)] = Field("", description="Empty: the task's title.")
    body: Text | None = Field(None, description="null: put together from what the agent said, the template and the prompt.")
    base: Annotated[str, Field(max_length=250)] = Field("", description="The branch it is to go into; empty: the task's base branch.")
    branch: Annotated[str, Field(max_length=250)] = Field("", description="The branch to push to; empty: the run's own.")
    is_draft: bool = False
    labels: Annotated[list[Name], Field(max_length=50)] = []
    reviewers: Annotated[list[Name], Field(max_length=50)] = []
    allows_secrets: bool = Field(False, description="Publish a patch that holds values of the repository's secrets.")


class PullRequestUpdate(Input):
    rebases: bool = Field(True, description="false: leave conflicts with the base branch to GitHub.")
    branch: Annotated[str, Field(max_length=250)] = ""
    labels: Annotated[list[Name], Field(max_length=50)] | None = None
    reviewers: Annotated[list[Name], Field(max_length=50)] | None = None
    allows_secrets: bool = False


class Merge(Input):
    method: Literal["merge", "squash", "rebase"]
    head_sha: Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")] = Field(description="The commit that was looked at.")
