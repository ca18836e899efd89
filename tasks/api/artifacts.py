"""Artifacts: what a run left to be kept beside its patch."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Router

from tasks.api import schemas
from tasks.api.auth import Request
from tasks.api.downloads import as_bytes
from tasks.api.finding import find_run
from tasks.api.paging import Id
from tasks.attachments import UNKNOWN
from tasks.models import Artifact
from tasks.raw import download

router = Router(tags=["artifacts"])


def _shown(artifact: Artifact) -> schemas.Artifact:
    return schemas.Artifact(
        id=artifact.pk,
        path=artifact.path,
        turn=artifact.turn.number,
        size=artifact.size,
        sha256=artifact.sha256,
        left_out=artifact.left_out,
        secrets_found=artifact.secrets_found,
        created_at=artifact.created_at,
    )


@router.get("/runs/{int:run_id}/artifacts", response=schemas.Artifacts, operation_id="list_artifacts", summary="List a run's artifacts")
def list_artifacts(request: Request, run_id: Id) -> schemas.Artifacts:
    """All that the run left in its folder `artifacts/`, by path, and what was there and is not kept."""
    rows = Artifact.objects.filter(run=find_run(request, run_id)).select_related("turn").defer("content", "turn__prompt", "turn__outcome")
    return schemas.Artifacts(items=[_shown(artifact) for artifact in rows])


@router.get(
    "/runs/{int:run_id}/artifacts/{int:artifact_id}/content",
    openapi_extra=as_bytes(UNKNOWN, "The file."),
    operation_id="download_artifact",
    summary="Download an artifact",
)
def download_artifact(request: Request, run_id: Id, artifact_id: Id) -> HttpResponse:
    """A file that the run left, as it is: an agent wrote it. The ETag is its sha256."""
    kept = Artifact.objects.filter(run=find_run(request, run_id)).exclude(sha256="")
    found = get_object_or_404(kept, pk=artifact_id)
    response = download(bytes(found.content), found.path.rpartition("/")[2])
    response["ETag"] = f'"{found.sha256}"'
    return response
