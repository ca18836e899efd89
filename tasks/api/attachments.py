"""Files that go with prompts: stored first, then named by their ids when a task or a follow-up is sent."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from ninja import File, Query, Router, UploadedFile

from tasks import attachments as verbs
from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.downloads import as_bytes
from tasks.api.idempotency import OnceRequest, once
from tasks.api.paging import Cursor, Id, Limit, page
from tasks.models import Attachment
from tasks.raw import download

router = Router(tags=["attachments"])


def shown(attachment: Attachment) -> schemas.Attachment:
    return schemas.Attachment(
        id=attachment.pk,
        name=attachment.name,
        content_type=attachment.content_type,
        size=attachment.size,
        created_at=attachment.created_at,
    )


def _own(request: Request, pk: int) -> Attachment:
    """Without its content, until that is looked at."""
    return get_object_or_404(Attachment.objects.visible_to(request.user).defer("content"), pk=pk)


@router.get("/attachments", response=schemas.Attachments, operation_id="list_attachments", summary="List attachments")
def list_attachments(
    request: Request,
    cursor: Cursor = None,
    limit: Limit = 30,
    is_draft: Annotated[bool | None, Query(description="Only those that no prompt has yet, or only those that one has.")] = None,
) -> schemas.Attachments:
    """Files of yours, newest first. What no prompt has got within a day is deleted."""
    rows = Attachment.objects.visible_to(request.user).defer("content")
    if is_draft is not None:
        rows = rows.drafts() if is_draft else rows.sent()
    found, following = page(request, rows, cursor=cursor, limit=limit)
    return schemas.Attachments(items=[shown(attachment) for attachment in found], next=following)


@router.post("/attachments", response={201: schemas.Attachment}, operation_id="upload_attachment", summary="Upload an attachment")
@once(201)
def upload_attachment(request: OnceRequest, file: Annotated[UploadedFile, File()]) -> schemas.Attachment:
    """Store a file for a prompt, as `multipart/form-data`: its id goes into `attachments` of a task or a follow-up within a day."""
    return shown(verbs.store(by=request.user, files=[file])[0])


@router.get("/attachments/{int:attachment_id}", response=schemas.Attachment, operation_id="get_attachment", summary="Show an attachment")
def get_attachment(request: Request, attachment_id: Id) -> schemas.Attachment:
    """What a file of yours is, without its content."""
    return shown(_own(request, attachment_id))


@router.get(
    "/attachments/{int:attachment_id}/content",
    openapi_extra=as_bytes(verbs.UNKNOWN, "The file."),
    operation_id="download_attachment",
    summary="Download an attachment",
)
def download_attachment(request: Request, attachment_id: Id) -> HttpResponse:
    """A file of yours as it came."""
    found = _own(request, attachment_id)
    return download(bytes(found.content), found.name)


@router.delete("/attachments/{int:attachment_id}", response={204: None}, operation_id="delete_attachment", summary="Delete an attachment")
def delete_attachment(request: Request, attachment_id: Id) -> None:
    """Delete a file that no prompt has yet. What went with one stays with it."""
    verbs.remove(by=request.user, attachment=_own(request, attachment_id))
