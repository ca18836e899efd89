"""Where GitHub's webhooks arrive. Whoever sends must know the secret; there is no session, and nothing is parsed before its signature
is found good. The work is a job's: GitHub waits for ten seconds only."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from tasks.errors import AppError
from tasks.github import webhooks
from tasks.github_api import apps
from tasks.models import DeliveryStatus


@csrf_exempt
@login_not_required
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """202 for what a job works on, 200 for what was received before, 400 for what cannot be used; 403 without the right signature,
    404 where no secret is set."""
    if not apps.webhook_secrets():
        raise Http404
    if request.content_type != "application/json":
        return _say("Set the webhook's content type to application/json.", 415)
    body = _body(request)
    if body is None:
        return _say("That is more than GitHub sends.", 413)
    if not webhooks.is_signed(body, request.headers.get("X-Hub-Signature-256", "")):
        return _say("The signature is not that of our secret. Set the webhook's secret to GITHUB_WEBHOOK_SECRET.", 403)
    headers = request.headers
    try:
        delivery, is_new = webhooks.receive(
            delivery_id=headers.get("X-GitHub-Delivery", ""), event=headers.get("X-GitHub-Event", ""), body=body
        )
    except AppError as error:
        return _say(error.message, 400)
    if not is_new:
        return _say("This was received before.", 200)
    return _say(delivery.outcome, 400) if delivery.status == DeliveryStatus.FAILED else _say("Received.", 202)


def _body(request: HttpRequest) -> bytes | None:
    """The raw body; None when it is, or claims to be, bigger than what GitHub sends, of which no more than that is read.

    `request.body` would refuse what is bigger than a form may be.
    """
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared[:20]) > webhooks.MOST_BYTES:
        return None
    body = request.read(webhooks.MOST_BYTES + 1)
    return body if len(body) <= webhooks.MOST_BYTES else None


def _say(sentence: str, status: int) -> HttpResponse:
    return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")
