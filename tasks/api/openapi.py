"""What the API says of itself: what django-ninja makes of the operations, and how they are refused."""

from __future__ import annotations

from functools import cached_property
from http import HTTPStatus
from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import REF_TEMPLATE, OpenAPISchema

from tasks.api.errors import MEDIA_TYPE, Problem

DESCRIPTION = (
    "Everything that the pages do, for programs. Requests carry a token of the settings page (`Authorization: Bearer ac_…`); errors are "
    "`application/problem+json` (RFC 9457); lists come in pages that name the next one; a POST with an `Idempotency-Key` counts once."
)
TAGS = {
    "account": "Whose token it is.",
    "agents": "Who can be asked.",
    "repositories": "What tasks work on, with the environment that sandboxes get.",
    "attachments": "Files that go with prompts.",
    "tasks": "What somebody wants.",
    "runs": "Each agent's attempts at a task.",
    "turns": "What was said in a run, and follow-ups.",
    "events": "What happened in a run, as it happens.",
    "patches": "What a run changed.",
    "artifacts": "What a run left beside its patch.",
    "comparisons": "Runs side by side.",
    "comments": "On lines of a run's changes.",
    "pull requests": "Runs on GitHub.",
    "usage": "Tokens and cost.",
    "webhooks": "Who is told of your runs, and what became of it.",
}
_ALWAYS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Api(NinjaAPI):
    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        return self._described

    @cached_property
    def _described(self) -> OpenAPISchema:
        schema = super().get_openapi_schema()
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                _finish(operation, path, method)
        problem = Problem.model_json_schema(ref_template=REF_TEMPLATE)
        schema["components"]["schemas"] |= problem.pop("$defs") | {"Problem": problem}
        schema["components"]["responses"] = {_name(status): _refusal(status) for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}
        schema["tags"] = [{"name": name, "description": said} for name, said in TAGS.items()]
        return schema


def _finish(operation: dict[str, Any], path: str, method: str) -> None:
    for parameter in operation["parameters"]:
        _leave_out_null(parameter["schema"])
    refusals = set(_ALWAYS)
    if "{" in path:
        refusals |= {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}
    if method != "get":
        refusals |= {HTTPStatus.CONFLICT}
    if "requestBody" in operation:
        refusals |= {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.NOT_FOUND}
    if "requestBody" in operation or operation["parameters"]:
        refusals.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    operation["responses"] |= {int(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(refusals)}


def _leave_out_null(schema: dict[str, Any]) -> None:
    """A parameter is there or not; none is null."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}


def _name(status: HTTPStatus) -> str:
    return status.phrase.title().replace(" ", "").replace("-", "").replace("'", "")


def _refusal(status: HTTPStatus) -> dict[str, Any]:
    said: dict[str, Any] = {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    if status in _AGAIN:
        said["headers"] = {"Retry-After": {"description": "In how many seconds to try again.", "schema": {"type": "string"}}}
    return said
