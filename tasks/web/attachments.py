"""Files on their way into prompts: stored as soon as they are chosen, shown to their owner, removed while they are a draft's."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tasks import attachments as verbs
from tasks.errors import AppError, InvalidInput
from tasks.models import Attachment
from tasks.web.access import Request, done


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def attachments(request: Request) -> HttpResponse:
    """The chips of the user's `ids` on GET, of what is stored now on POST; 422 says in one sentence why it is not."""
    if request.method != "POST":
        found = verbs.chosen(by=request.user, ids=request.GET.getlist("ids")[: verbs.MOST_FILES])
        return render(request, "tasks/attachments.html#chips", {"attachments": found})
    try:
        files = request.FILES.getlist("files")
        if not files:
            raise InvalidInput("Choose a file to attach.", field="attachments")
        stored = verbs.store(by=request.user, files=files)
    except AppError as error:
        return _refused(error)
    return render(request, "tasks/attachments.html#chips", {"attachments": stored}, status=201)


@login_required
@require_safe
def attachment(request: Request, pk: int) -> HttpResponse:
    """The file. Only what is a picture for sure is shown in the browser; the rest is bytes to save, whatever it says it is."""
    found = get_object_or_404(Attachment.objects.visible_to(request.user), pk=pk)
    is_picture = found.content_type in verbs.PICTURES
    return HttpResponse(
        bytes(found.content),
        content_type=found.content_type if is_picture else verbs.UNKNOWN,
        headers={
            "Content-Disposition": content_disposition_header(not is_picture, found.name) or "attachment",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, max-age=86400, immutable",
        },
    )


@login_required
@require_POST
def remove(request: Request, pk: int) -> HttpResponse:
    found = get_object_or_404(Attachment.objects.visible_to(request.user).defer("content"), pk=pk)
    try:
        verbs.remove(by=request.user, attachment=found)
    except AppError as error:
        return _refused(error)
    return done(request, "home")


def _refused(error: AppError) -> HttpResponse:
    return HttpResponse(error.message, status=422, content_type="text/plain; charset=utf-8")
