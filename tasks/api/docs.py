"""The page on which people read what the API can be asked: made of its OpenAPI, without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from ninja import NinjaAPI

_SCHEMAS = "#/components/schemas/"


@dataclass(frozen=True)
class Field:
    """A parameter, or a member of an object. `kind` is its type in words, `of` the object in it that is told elsewhere on the page."""

    name: str
    kind: str
    of: str
    about: str
    is_required: bool
    where: str = ""


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    summary: str
    about: str
    parameters: Sequence[Field]
    body: Sequence[Field]
    status: str
    answer: str
    media_type: str


@dataclass(frozen=True)
class Group:
    name: str
    about: str
    operations: Sequence[Operation]


@dataclass(frozen=True)
class Shape:
    """An object that answers are made of."""

    name: str
    about: str
    fields: Sequence[Field]


def page_of(api: NinjaAPI) -> Any:
    """The view of the page."""

    @login_required
    @require_safe
    def docs(request: HttpRequest) -> HttpResponse:
        raw = api.get_openapi_schema()
        operations = list(_operations(raw))
        groups = [Group(tag["name"], tag["description"], [one for name, one in operations if name == tag["name"]]) for tag in raw["tags"]]
        shown = {one.answer for _, one in operations} | {field.of for _, one in operations for field in one.body}
        context = {
            "about": _plain(raw["info"]["description"]),
            "groups": [group for group in groups if group.operations],
            "shapes": list(_shapes(raw["components"]["schemas"], shown)),
            "base": f"{settings.BASE_URL}/api/v1",
        }
        return render(request, "tasks/api.html", context)

    return docs


def _operations(raw: Mapping[str, Any]) -> Iterator[tuple[str, Operation]]:
    """Each with the name of its group."""
    for path, methods in raw["paths"].items():
        for method, said in methods.items():
            yield said["tags"][0], _operation(raw["components"]["schemas"], path, method, said)


def _operation(schemas: Mapping[str, Any], path: str, method: str, said: Mapping[str, Any]) -> Operation:
    status, answer = next((status, one) for status, one in said["responses"].items() if int(status) < 300)
    contents: dict[str, Any] = answer.get("content", {})
    media_type = next(iter(contents), "")
    sent: dict[str, Any] = next((one["schema"] for one in said.get("requestBody", {}).get("content", {}).values()), {})
    return Operation(
        id=said["operationId"],
        method=method.upper(),
        path=path,
        summary=said["summary"],
        about=_plain(said["description"]),
        parameters=[_parameter(schemas, one) for one in said["parameters"]],
        body=list(_fields(schemas, schemas.get(_name(sent), sent))),
        status=str(status),
        answer=_name(contents.get(media_type, {}).get("schema", {})),
        media_type=media_type,
    )


def _parameter(schemas: Mapping[str, Any], said: Mapping[str, Any]) -> Field:
    return Field(said["name"], _kind(said["schema"], schemas), "", _plain(said.get("description", "")), said["required"], said["in"])


def _shapes(schemas: Mapping[str, Any], wanted: set[str]) -> Iterator[Shape]:
    """These objects and all that are in them, by name."""
    found: set[str] = set()
    left = {"Problem", *wanted} - {""}
    while left:
        found |= left
        left = {field.of for name in left for field in _fields(schemas, schemas[name])} - found - {""}
    for name in sorted(found):
        yield Shape(name, _plain(schemas[name].get("description", "")), list(_fields(schemas, schemas[name])))


def _fields(schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Field]:
    for member, said in schema.get("properties", {}).items():
        of = _name(said)
        of = of if "properties" in schemas.get(of, {}) else ""
        yield Field(member, _kind(said, schemas), of, _plain(said.get("description", "")), member in schema.get("required", []))


def _plain(text: str) -> str:
    """Without the marks of Markdown that descriptions have."""
    return text.replace("`", "")


def _name(schema: Mapping[str, Any]) -> str:
    """The object that a schema is of, whatever is around it; "" when it is of none."""
    for inner in (schema, schema.get("items", {}), *schema.get("anyOf", []), *schema.get("allOf", [])):
        if ref := inner.get("$ref", ""):
            return str(ref).removeprefix(_SCHEMAS)
    return next((_name(inner) for inner in schema.get("anyOf", []) if "items" in inner), "")


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """A type in words: "string", "list of Run", "code, plan or ask"."""
    if ref := schema.get("$ref", ""):
        name = str(ref).removeprefix(_SCHEMAS)
        inner = schemas.get(name, {})
        return _kind(inner, schemas) if "enum" in inner else name
    if kinds := schema.get("anyOf") or schema.get("allOf"):
        return " or ".join(_kind(kind, schemas) for kind in kinds)
    if "enum" in schema:
        return ", ".join(str(value) or '""' for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'], schemas)}"
    formats = {"date-time": "time", "binary": "file"}
    return formats.get(schema.get("format", "")) or str(schema.get("const", schema.get("type", "anything")))
