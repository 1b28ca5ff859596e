"""One table of operations, from which both the routes of a server and its OpenAPI 3.1 document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import StatelessLifespan

from foreshard.gateway import http
from foreshard.gateway.interface import Document, Error

Endpoint = Callable[[Request], Awaitable[Response]]
Schema = Mapping[str, Any]
Content = type[BaseModel] | Schema
JSON, TEXT, LINES = "application/json", "text/plain", "application/x-ndjson"
PATH = "/openapi.json"
# What the limits say of any request: foreshard.gateway.limits.
_TOO_LONG = {414: "The address is too long.", 431: "The headers are too long."}
_REFERENCE = "#/components/schemas/{model}"
_SECURITY: Schema = {
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


@dataclass(frozen=True)
class Parameter:
    name: str
    place: str  # "query" or "header"
    schema: Schema
    told: str
    is_required: bool = False
    example: str | None = None


@dataclass(frozen=True)
class Gives:
    """One status: what it means, and the content by media type, as a model or a schema."""

    told: str
    content: Mapping[str, Content] = field(default_factory=lambda: {JSON: Error})
    headers: Mapping[str, str] = field(default_factory=dict)  # name, what it says
    retry: bool = False  # has Retry-After


_OF_ALL = {status: Gives(told) for status, told in _TOO_LONG.items()}


@dataclass(frozen=True)
class Operation:
    """`name` is the operation's id and names its endpoint. `takes`: the content of the request, as in Gives."""

    method: str
    path: str
    name: str
    told: str
    gives: Mapping[int, Gives]
    parameters: Sequence[Parameter] = ()
    takes: Mapping[str, Content] = field(default_factory=dict)
    needs_key: bool = False


def application(
    title: str,
    operations: Sequence[Operation],
    endpoints: Mapping[str, Endpoint],
    lifespan: StatelessLifespan[Starlette],
    *,
    has_keys: bool = False,
) -> Starlette:
    """The server of these operations, which also describes itself; every error is JSON with one sentence."""
    described = document(title, operations, has_keys)

    async def openapi(request: Request) -> Response:
        return JSONResponse(described)

    handlers = {HTTPException: _http_error, Exception: _unexpected}
    return Starlette(
        routes=[*_routes(operations, endpoints), Route(PATH, openapi)], lifespan=lifespan, exception_handlers=handlers
    )


def document(title: str, operations: Sequence[Operation], has_keys: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the operations and of the address that it is read from."""
    own = Operation("GET", PATH, "openapi", "This description.", {200: Gives("The description.", {JSON: Document})})
    paths: dict[str, dict[str, Any]] = {}
    for one in (*operations, own):
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, has_keys)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("foreshard")},
        "paths": paths,
        "components": {"schemas": _schemas((*operations, own))},
    }
    if has_keys:
        found["components"] = {**found["components"], "securitySchemes": dict(_SECURITY)}
    return found


def _routes(operations: Sequence[Operation], endpoints: Mapping[str, Endpoint]) -> list[Route]:
    """One for each path, so that a method which it has not is told all that it has."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for one in operations:
        by_path.setdefault(one.path, {})[one.method] = endpoints[one.name]
    return [Route(path, _by_method(found), methods=list(found)) for path, found in by_path.items()]


def _by_method(found: Mapping[str, Endpoint]) -> Endpoint:
    if len(found) == 1:
        return next(iter(found.values()))

    async def endpoint(request: Request) -> Response:
        return await found["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _operation(one: Operation, has_keys: bool) -> dict[str, Any]:
    gives = {**_OF_ALL, **one.gives}
    if one.needs_key and has_keys:
        gives[401] = Gives("No API key, or one that is not known here.")
        gives[403] = Gives("The API key is for a lower class, or the token was not issued here.")
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.told,
        "responses": {str(status): _response(told) for status, told in sorted(gives.items())},
    }
    if one.parameters:
        found["parameters"] = [_parameter(parameter) for parameter in one.parameters]
    if one.takes:
        found["requestBody"] = {"required": True, "content": _content(one.takes)}
    if one.needs_key and has_keys:
        found["security"] = [{name: []} for name in _SECURITY]
    return found


def _response(told: Gives) -> dict[str, Any]:
    headers: dict[str, Any] = {name: {"description": said, "schema": {"type": "string"}} for name, said in told.headers.items()}
    if told.retry:
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}, "required": True}
    found: dict[str, Any] = {"description": told.told, "content": _content(told.content)}
    return {**found, "headers": headers} if headers else found


def _parameter(one: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": one.name,
        "in": one.place,
        "description": one.told,
        "required": one.is_required,
        "schema": dict(one.schema),
    }
    return found if one.example is None else {**found, "example": one.example}


def _content(content: Mapping[str, Content]) -> dict[str, Any]:
    return {media: {"schema": _schema(shape)} for media, shape in content.items()}


def _schema(shape: Content) -> dict[str, Any]:
    return dict(shape) if isinstance(shape, Mapping) else {"$ref": _REFERENCE.format(model=shape.__name__)}


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    shapes = [s for o in operations for content in (o.takes, *(g.content for g in o.gives.values())) for s in content.values()]
    models = {shape for shape in shapes if not isinstance(shape, Mapping)} | {Error}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, found = models_json_schema([(model, "validation") for model in ordered], ref_template=_REFERENCE)
    return dict(found["$defs"])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return http.error(error.status_code, f"{error.detail}: {PATH} says what there is", headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    return http.error(500, "this is a fault of the server, which has written it to its log")
