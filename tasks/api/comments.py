"""Comments on lines of a run's changes: drafted one by one, sent together as a follow-up."""

from __future__ import annotations

from django.http import Http404
from django.shortcuts import get_object_or_404
from ninja import Router

from tasks import comments
from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.finding import find_run
from tasks.api.idempotency import OnceRequest, once
from tasks.api.paging import Cursor, Id, Limit, page
from tasks.api.turns import shown as turn_shown
from tasks.api.turns import whole
from tasks.comments import Lines, Sides
from tasks.models import Comment, CommentSide, Run, Turn
from tasks.review.diffs import files
from tasks.review.trees import Change
from tasks.running import patches

router = Router(tags=["comments"])
ADDRESS = "/runs/{int:run_id}/comments"


def _shown(comment: Comment) -> schemas.Comment:
    return schemas.Comment(
        id=comment.pk,
        path=comment.path,
        old_path=comment.old_path,
        side=CommentSide(comment.side),
        start=comment.start_line,
        end=comment.end_line,
        quote=comment.quote,
        body=comment.body,
        author=comment.author.username,
        is_draft=comment.is_draft,
        turn=comment.turn.number if comment.turn else None,
        review=comment.review,
        created_at=comment.created_at,
    )


def _one(pk: int) -> schemas.Comment:
    """A comment as it is now."""
    return _shown(Comment.objects.select_related("author", "turn").get(pk=pk))


def _own(request: Request, run_id: int, pk: int) -> Comment:
    return get_object_or_404(Comment.objects.filter(run=find_run(request, run_id), author=request.user), pk=pk)


@router.get(ADDRESS, response=schemas.Comments, operation_id="list_comments", summary="List comments")
def list_comments(request: Request, run_id: Id, cursor: Cursor = None, limit: Limit = 30) -> schemas.Comments:
    """What was said of a run's changes, and your drafts, newest first."""
    rows = Comment.objects.visible_to(request.user).filter(run=find_run(request, run_id)).select_related("author", "turn")
    found, following = page(request, rows, cursor=cursor, limit=limit)
    return schemas.Comments(items=[_shown(comment) for comment in found], next=following)


@router.post(ADDRESS, response={201: schemas.Comment}, operation_id="draft_comment", summary="Draft a comment")
@once(201)
def draft_comment(request: OnceRequest, run_id: Id, new: schemas.NewComment) -> schemas.Comment:
    """Write a comment on lines of a changed file. Nobody else sees it until it is sent."""
    run = find_run(request, run_id)
    sides, lines = _sides(run, new.path), Lines(new.start, new.end)
    return _one(comments.draft(run=run, by=request.user, sides=sides, side=new.side, lines=lines, body=new.body).pk)


def _sides(run: Run, path: str) -> Sides:
    """A file of the run's newest change, by the path that it has now, or had before; 404 where it is none."""
    patch = patches.newest(run)
    changed = Change(run.task, None, patch).ask(files) if patch else []
    found = next((file for file in changed if path in (file.path, file.change.old_path)), None)
    if found is None:
        raise Http404
    change = found.change
    return Sides(found.anchor, change.path, change.old_path, change.old_blob, change.new_blob)


@router.patch(f"{ADDRESS}/{{int:comment_id}}", response=schemas.Comment, operation_id="edit_comment", summary="Edit a draft")
def edit_comment(request: Request, run_id: Id, comment_id: Id, changed: schemas.CommentText) -> schemas.Comment:
    """Put another text into a comment that was not sent yet."""
    comments.edit(comment=_own(request, run_id, comment_id), by=request.user, body=changed.body)
    return _one(comment_id)


@router.delete(f"{ADDRESS}/{{int:comment_id}}", response={204: None}, operation_id="delete_comment", summary="Delete a draft")
def delete_comment(request: Request, run_id: Id, comment_id: Id) -> None:
    """Delete a comment that was not sent yet."""
    comments.delete(comment=_own(request, run_id, comment_id), by=request.user)


@router.post(f"{ADDRESS}/send", response={201: schemas.Turn}, operation_id="send_comments", summary="Send drafts")
@once(201)
def send_comments(request: OnceRequest, run_id: Id, sent: schemas.SentComments) -> schemas.Turn:
    """Send drafts to the agent, together, as one follow-up."""
    run = find_run(request, run_id)
    turn = comments.send(run=run, by=request.user, ids=sent.comments, message=sent.message, now=sent.is_urgent)
    return turn_shown(whole(Turn.objects.all()).get(pk=turn.pk))
