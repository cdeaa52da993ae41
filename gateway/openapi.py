"""The OpenAPI 3.1 document of what is served, made from the schemas."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import orjson
from starlette.types import Receive, Scope, Send

from gateway import openapi_headers
from gateway.answers import send_json
from gateway.health import platform_version

_REF = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    answer: Any
    """Type of the answer: a struct, a list of them, None for `null`, or bytes for a file.

    A tuple of types stands for one of them.
    """
    body: type[msgspec.Struct] | tuple[type[msgspec.Struct], ...] | None = None
    """Schema of the request's body, as JSON; or several, of which it has one."""
    form: type[msgspec.Struct] | None = None
    """Schema of the request's body, as `multipart/form-data`."""
    query: type[msgspec.Struct] | None = None
    """Schema of the parameters in its query string."""
    streams: bool = False
    """Whether the answer may be a stream, of server-sent events if nothing else is said."""
    stream_type: str = "text/event-stream"
    """What such a stream is."""
    open: bool = False
    """Whether it needs no credential."""
    basic: bool = False
    """Whether it takes a token as a password, too."""
    error: type[msgspec.Struct] | None = None
    """Schema of its errors, where they are not like others."""
    statuses: tuple[int, ...] = (200,)
    """Those with which it answers."""
    plain_errors: tuple[int, ...] = ()
    """Statuses of errors that are told in plain text, at least some."""


class HealthServices(msgspec.Struct):
    """State of what the platform is made of."""

    redis: str
    llm_worker: str
    sd_worker: str


class HealthBody(msgspec.Struct):
    """Body of the answer of `/health`."""

    status: str
    timestamp: str
    version: str
    services: HealthServices
    ready: bool
    """Whether it can tell keys. At its start it waits for that, some seconds at most."""


HEALTH = (
    Operation("get", "/health", "Tells how the platform stands.", HealthBody, open=True),
    Operation("post", "/health", "Tells how the platform stands.", HealthBody, open=True),
)
"""Operations that belong to no dialect."""


HeadersOf = Callable[[str], Mapping[str, Any]]
"""Tells which headers the answers on a path have beside those of all."""


def document(
    operations: Sequence[Operation], error: type[msgspec.Struct], headers_of: HeadersOf
) -> dict[str, Any]:
    """Makes the document; `error` is the schema of errors."""
    kinds: list[Any] = [error]
    for operation in operations:
        kinds += _options(operation.answer)
        kinds += _options(operation.body) if operation.body is not None else ()
    kinds += [op.form for op in operations if op.form is not None]
    kinds += [op.error for op in operations if op.error is not None]
    unique = list(dict.fromkeys(kinds))
    found, components = msgspec.json.schema_components(unique, ref_template=_REF)
    schemas = dict(zip(unique, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, error, schemas, headers_of(operation.path))
        paths.setdefault(operation.path, {})[operation.method] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": platform_version(),
            "description": "Self-hosted AI inference behind the OpenAI API.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            **openapi_headers.components(),
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _operation(
    operation: Operation,
    error: type[msgspec.Struct],
    schemas: Mapping[Any, dict[str, Any]],
    headers: Mapping[str, Any],
) -> dict[str, Any]:
    well = {"headers": openapi_headers.headers(headers, failed=False)}
    failed = {"headers": openapi_headers.headers(headers, failed=True)}
    kind = "application/octet-stream" if operation.answer is bytes else "application/json"
    content: dict[str, Any] = {kind: {"schema": _one_of(operation.answer, schemas)}}
    if operation.streams:
        content[operation.stream_type] = {"schema": {"type": "string"}}
    wrong = {"application/json": {"schema": schemas[operation.error or error]}}
    name = operation.path.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    described: dict[str, Any] = {
        "operationId": f"{operation.method}_{name}",
        "summary": operation.summary,
        "responses": {
            **{
                str(status): {"description": "The answer.", "content": content} | well
                for status in operation.statuses
            },
            **{
                str(status): {
                    "description": "What went wrong.",
                    "content": wrong | {"text/plain": {"schema": {"type": "string"}}},
                }
                | failed
                for status in operation.plain_errors
            },
            "default": {"description": "What went wrong.", "content": wrong} | failed,
        },
    }
    bodies = {"application/json": operation.body, "multipart/form-data": operation.form}
    taken = {
        name: {"schema": _one_of(kind, schemas)}
        for name, kind in bodies.items()
        if kind is not None
    }
    if taken:
        described["requestBody"] = {"required": True, "content": taken}
    described["parameters"] = [
        *_path_parameters(operation.path),
        *_query_parameters(operation.query),
        *openapi_headers.parameters(is_open=operation.open),
    ]
    if operation.open:
        described["security"] = []
    if operation.basic:
        described["security"] = [{"bearer": []}, {"basic": []}]
    return described


def _options(kind: Any) -> Sequence[Any]:
    return cast("tuple[Any, ...]", kind) if isinstance(kind, tuple) else (kind,)


def _one_of(kind: Any, schemas: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    options = [schemas[option] for option in _options(kind)]
    return options[0] if len(options) == 1 else {"anyOf": options}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": part[1:-1],
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": "May contain slashes and colons.",
        }
        for part in path.split("/")
        if part.startswith("{")
    ]


def _query_parameters(query: type[msgspec.Struct] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    _, components = msgspec.json.schema_components([query])
    described: dict[str, Any] = components[query.__name__]
    required: list[str] = described.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        | ({"style": "deepObject", "explode": True} if _has_object(schema) else {})
        for name, schema in described["properties"].items()
    ]


def _has_object(schema: Mapping[str, Any]) -> bool:
    """Tells whether a parameter may be an object, which is written as `name[key]=value`."""
    options: Sequence[Mapping[str, Any]] = schema.get("anyOf", (schema,))
    return any(option.get("type") == "object" for option in options)


class OpenApi:
    """`GET /openapi.json`."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Takes what makes the document: few ask for it, and the edge starts sooner without it."""
        self._make = make
        self._body = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with the document."""
        if not self._body:
            self._body = await asyncio.to_thread(lambda: orjson.dumps(self._make()))
        await send_json(send, self._body)
