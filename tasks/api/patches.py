"""Patches, as figures and as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.db.models import F, Func, IntegerField, QuerySet
from django.http import Http404, StreamingHttpResponse
from ninja import Router

from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.downloads import as_bytes
from tasks.api.finding import find_run
from tasks.api.paging import Id
from tasks.models import Patch, PatchKind

router = Router(tags=["patches"])
MEDIA_TYPE = "text/x-diff"
_PIECE = 4 * 2**20  # bytes
_AS_BYTES = as_bytes(MEDIA_TYPE, "The patch, ready for `git apply --index --allow-empty`.")


@router.get("/runs/{int:run_id}/patches", response=schemas.Patches, operation_id="list_patches", summary="List a run's patches")
def list_patches(request: Request, run_id: Id) -> schemas.Patches:
    """What the run had changed after each of its turns, with the files, newest first."""
    patches = Patch.objects.filter(run=find_run(request, run_id)).select_related("turn").defer("content")
    return schemas.Patches(items=[_shown(patch) for patch in patches.order_by("-turn__number", "-kind")])


def _shown(patch: Patch) -> schemas.Patch:
    return schemas.Patch(
        turn=patch.turn.number,
        kind=PatchKind(patch.kind),
        sha256=patch.sha256,
        additions=patch.additions,
        deletions=patch.deletions,
        files=[schemas.PatchFile(**file) for file in patch.files],
        left_out=[schemas.LeftOut(**entry) for entry in patch.left_out],
        secrets_found=patch.secrets_found,
        created_at=patch.created_at,
    )


@router.get("/runs/{int:run_id}/patch", openapi_extra=_AS_BYTES, operation_id="get_patch", summary="Download a run's patch")
def get_patch(request: Request, run_id: Id) -> StreamingHttpResponse:
    """The newest patch as it is."""
    return _download(Patch.objects.filter(run=find_run(request, run_id)))


@router.get(
    "/runs/{int:run_id}/turns/{int:number}/patch", openapi_extra=_AS_BYTES, operation_id="get_turn_patch", summary="Download a turn's patch"
)
def get_turn_patch(request: Request, run_id: Id, number: Id) -> StreamingHttpResponse:
    """What the run had changed since the base commit when this turn was over."""
    return _download(Patch.objects.filter(run=find_run(request, run_id), turn__number=number))


def _download(patches: QuerySet[Patch]) -> StreamingHttpResponse:
    size = Func(F("content"), function="octet_length", output_field=IntegerField())
    newest = patches.order_by("-turn__number", "-kind").annotate(size=size).values_list("pk", "sha256", "size").first()
    if newest is None:
        raise Http404
    pk, sha256, length = newest
    response = StreamingHttpResponse(_pieces(pk, sha256, length), content_type=MEDIA_TYPE)
    response["Content-Length"] = str(length)
    response["ETag"] = f'"{sha256}"'
    response["X-Content-Type-Options"] = "nosniff"  # its bytes are the agent's
    return response


async def _pieces(pk: int, sha256: str, length: int) -> AsyncIterator[bytes]:
    """The patch in pieces. One that is replaced meanwhile breaks off, and the length tells."""

    def piece(start: int) -> bytes:
        cut = Func(F("content"), start + 1, _PIECE, function="substr", output_field=Patch._meta.get_field("content"))
        return bytes(Patch.objects.filter(pk=pk, sha256=sha256).values_list(cut, flat=True).get())

    for start in range(0, length, _PIECE):
        yield await sync_to_async(piece)(start)
