"""What a run left to be kept beside its patch, as pages show it, and its bytes."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from tasks.models import Artifact, Run
from tasks.raw import may_be_picture, raw
from tasks.review.whole import is_text
from tasks.web.access import Request


@dataclass(frozen=True)
class ShownArtifact:
    artifact: Artifact
    is_picture: bool

    @property
    def why(self) -> str:
        """Why the newest version is not kept; "" when it is."""
        reasons = {
            "size": f"larger than {settings.MAX_ARTIFACT_MB} MB",
            "total": f"more than {settings.MAX_ARTIFACTS_MB} MB of a run together",
            "count": f"more than {settings.MAX_ARTIFACTS} files of a run",
            "unreadable": "could not be read",
        }
        return reasons.get(self.artifact.left_out, self.artifact.left_out)


def artifacts_of(run: Run) -> list[ShownArtifact]:
    found = Artifact.objects.filter(run=run).select_related("turn").defer("content", "turn__prompt", "turn__outcome")
    return [ShownArtifact(each, bool(each.sha256) and may_be_picture(each.path, each.size)) for each in found]


@login_required
@require_safe
def artifact(request: Request, pk: int, number: int) -> HttpResponse:
    """An artifact's bytes; what is neither a picture nor text comes as a download."""
    found = get_object_or_404(Artifact.objects.filter(run__in=Run.objects.visible_to(request.user), run=pk).exclude(sha256=""), pk=number)
    content = bytes(found.content)
    is_shown = may_be_picture(found.path, found.size) or is_text(content)
    return raw(content, found.path.rpartition("/")[2], is_download="download" in request.GET or not is_shown)
