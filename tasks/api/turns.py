"""The turns of a run, and follow-ups."""

from __future__ import annotations

from django.db.models import Prefetch, QuerySet
from django.shortcuts import get_object_or_404
from ninja import Router

from tasks import attachments, services, turns
from tasks.api import schemas
from tasks.api.attachments import shown as attachment_shown
from tasks.api.auth import Request
from tasks.api.finding import find_run
from tasks.api.idempotency import OnceRequest, once
from tasks.api.paging import Cursor, Id, Limit, page
from tasks.models import Attachment, Mode, RunStatus, Turn, TurnKind

router = Router(tags=["turns"])


def whole(turns: QuerySet[Turn]) -> QuerySet[Turn]:
    """Turns with all that is shown of them; the number of queries does not depend on theirs."""
    files = Prefetch("attachments", Attachment.objects.defer("content"))
    return turns.select_related("author").prefetch_related(files)


def shown(turn: Turn) -> schemas.Turn:
    return schemas.Turn(
        number=turn.number,
        kind=TurnKind(turn.kind),
        mode=Mode(turn.mode),
        prompt=turn.prompt,
        attachments=[attachment_shown(attachment) for attachment in turn.attachments.all()],
        answer=turn.answer,
        status=RunStatus(turn.status),
        error_class=turn.error_class,
        author=turn.author.username if turn.author else None,
        created_at=turn.created_at,
        started_at=turn.started_at,
        finished_at=turn.finished_at,
        input_tokens=turn.input_tokens,
        cached_tokens=turn.cached_tokens,
        output_tokens=turn.output_tokens,
        reasoning_tokens=turn.reasoning_tokens,
        cost_usd=None if turn.cost_usd is None else float(turn.cost_usd),
    )


def _find(request: Request, run_id: int, number: int) -> Turn:
    return get_object_or_404(whole(Turn.objects.filter(run=find_run(request, run_id)).select_related("run__task")), number=number)


@router.get("/runs/{int:run_id}/turns", response=schemas.Turns, operation_id="list_turns", summary="List a run's turns")
def list_turns(request: Request, run_id: Id, cursor: Cursor = None, limit: Limit = 30) -> schemas.Turns:
    """What was asked of the agent and what it answered, newest first."""
    rows = whole(Turn.objects.filter(run=find_run(request, run_id)))
    found, following = page(request, rows, cursor=cursor, limit=limit)
    return schemas.Turns(items=[shown(turn) for turn in found], next=following)


@router.get("/runs/{int:run_id}/turns/{int:number}", response=schemas.Turn, operation_id="get_turn", summary="Show a turn")
def get_turn(request: Request, run_id: Id, number: Id) -> schemas.Turn:
    """One turn of a run."""
    return shown(_find(request, run_id, number))


@router.post("/runs/{int:run_id}/turns", response={201: schemas.Turn}, operation_id="send_follow_up", summary="Send a follow-up")
@once(201)
def send_follow_up(request: OnceRequest, run_id: Id, follow_up: schemas.NewFollowUp) -> schemas.Turn:
    """Ask the agent for more, in the same sandbox. It waits while a turn is at work, unless it is urgent."""
    run = find_run(request, run_id)
    send = turns.stop_and_send if follow_up.is_urgent else services.send_follow_up
    files = attachments.wanted(by=request.user, ids=follow_up.attachments)
    send(run=run, by=request.user, prompt=follow_up.prompt, attachments=files, mode=follow_up.mode or "")
    newest = whole(Turn.objects.filter(run=run, author=request.user)).order_by("-pk")
    return shown(newest[0])


@router.delete(
    "/runs/{int:run_id}/turns/{int:number}", response={204: None}, operation_id="withdraw_follow_up", summary="Withdraw a follow-up"
)
def withdraw_follow_up(request: Request, run_id: Id, number: Id) -> None:
    """Take back a follow-up that still waits."""
    services.withdraw_follow_up(turn=_find(request, run_id, number), by=request.user)
