"""Requests that count once, however often they are sent: by their Idempotency-Key, for a day."""

from __future__ import annotations

import hashlib
import inspect
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import wraps
from http import HTTPStatus
from typing import Any, cast

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.http import HttpResponse
from ninja.params import functions as params
from ninja.renderers import JSONRenderer
from ninja.utils import contribute_operation_args
from pydantic import BaseModel

from tasks.api.auth import Request
from tasks.api.errors import Refusal
from tasks.models import IdempotencyKey, User

TAKEN_OVER = timedelta(minutes=2)  # longer than any request takes: whoever has begun then is dead
FORM = "multipart/form-data"
REPLAYED = "Idempotent-Replayed"
_NAMESPACE = uuid.UUID("6f0c3d0a-5d0f-4b86-9f0d-6a6f5b1f2a51")
_ABOUT = "Any text of yours. The same request with the same key, sent again within 24 hours, does nothing and gets the same answer."
_KEY: Any = params.Header(None, alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[!-~]+$", description=_ABOUT)
View = Callable[..., BaseModel]


class OnceRequest(Request):
    """`submission` names what was sent, where it has a key: the same for the same request of the same user."""

    submission: uuid.UUID | None


def once(status: int, *, is_repeatable: bool = False) -> Callable[[View], Callable[..., HttpResponse]]:
    """A view that changes something, whose answer is kept if the request has a key. An error frees the key: nothing was done.

    What the view does and its answer are one transaction, so that a crash leaves both or neither. One that asks others over the
    network in between cannot be in a transaction: it must be `is_repeatable`, so that doing it again makes nothing twice.
    """

    def decorate(view: View) -> Callable[..., HttpResponse]:
        @wraps(view)
        def wrapped(request: OnceRequest, *args: Any, idempotency_key: str | None = None, **kwargs: Any) -> HttpResponse:
            request.submission = None
            if idempotency_key is None:
                return _response(status, _rendered(request, view(request, *args, **kwargs), status))
            row = _begin(request.user, idempotency_key, _digest(request))
            if row.status is not None:
                return _response(row.status, row.body, {REPLAYED: "true"})
            request.submission = uuid.uuid5(_NAMESPACE, f"{request.user.pk}:{row.key}:{row.digest}")
            mine = IdempotencyKey.objects.filter(pk=row.pk, begun_at=row.begun_at, status=None)
            scope: AbstractContextManager[Any] = nullcontext() if is_repeatable else transaction.atomic()
            try:
                with scope:
                    body = _rendered(request, view(request, *args, **kwargs), status)
                    if not mine.update(status=status, body=body) and not is_repeatable:
                        raise _under_way()  # it took so long that another has taken it over
            except BaseException:
                mine.delete()
                raise
            return _response(status, body)

        wrapped.__signature__ = inspect.signature(view, eval_str=True)  # type: ignore[attr-defined]  # in the view's own module
        contribute_operation_args(wrapped, "idempotency_key", str | None, _KEY)  # type: ignore[arg-type]  # (a union is no class)
        return wrapped

    return decorate


def _begin(user: User, key: str, digest: str) -> IdempotencyKey:
    """The key's row: with an answer, or to be answered by the caller."""
    try:
        row, is_new = IdempotencyKey.objects.get_or_create(user=user, key=key, defaults={"digest": digest})
    except IntegrityError as error:  # it was freed between two looks
        raise _under_way() from error
    if row.digest != digest:
        said = "This Idempotency-Key came with another request before. Use a key of its own for each."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, said, code="idempotency_key_reused")
    if is_new or row.status is not None:
        return row
    dead = IdempotencyKey.objects.filter(pk=row.pk, status=None, begun_at=row.begun_at, begun_at__lt=Now() - TAKEN_OVER)
    if not dead.update(begun_at=Now()):
        raise _under_way()
    row.refresh_from_db()
    return row


def _under_way() -> Refusal:
    said = "A request with this Idempotency-Key is under way. Send it again in a moment to get its answer."
    return Refusal(HTTPStatus.CONFLICT, said, code="idempotency_key_in_use", headers={"Retry-After": "1"})


def _digest(request: Request) -> str:
    digest = hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode())
    if request.content_type != FORM:
        digest.update(request.body)
        return digest.hexdigest()
    for field, file in cast("dict[str, UploadedFile[bytes]]", request.FILES).items():  # what is around them is another each time
        digest.update(f"{field}\n{file.name}\n{file.size}\n".encode(errors="replace"))
        for piece in file.chunks():
            digest.update(piece)
    return digest.hexdigest()


def _rendered(request: Request, answer: BaseModel | None, status: int) -> str:
    if answer is None:
        return ""
    return str(JSONRenderer().render(request, answer.model_dump(), response_status=status))


def _response(status: int, body: str, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(body, status=status, content_type="application/json; charset=utf-8", headers=headers)
