"""One inference on any model, translated into the request of the service that has it. No I/O."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from google.protobuf import struct_pb2
from penstock.embedding.v1 import embedding_pb2
from penstock.embedding.v1 import embedding_service_pb2 as embedding_service
from penstock.image.v1 import image_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.dialects.botserver import inference_schema as schema
from gateway.dialects.botserver.spelling import SHOWN
from gateway.errors import Problem, invalid
from gateway.spelling import Rule, Spelling, rules, spelling
from gateway.validation import decode

_EXACT = 2**53
"""Whole numbers beyond it are not exact in a structure."""
_TAKES: Mapping[str, str] = {
    "chat": "a text",
    "completion": "a text",
    "embedding": "a text",
    "image": "a text that tells what to draw",
    "tensor": "arrays of numbers, or an object with an array for each of its inputs",
}
"""What models take, by kind. The others take part in no inference."""

_GIVEN = {b'"': "a string", b"[": "an array", b"{": "an object"}
"""What inputs are, by their first character."""

_TEXT = msgspec.json.Decoder(schema.TextInference)
_EMBEDDING = msgspec.json.Decoder(schema.EmbeddingInference)
_IMAGE = msgspec.json.Decoder(schema.ImageInference)
_BODY = msgspec.json.Decoder(schema.InferenceRequest)


def _parameter_rules(known: type[msgspec.Struct]) -> Sequence[Rule]:
    return rules((rf"^({'|'.join(known.__struct_fields__)})$", r"parameters.\1"))


_SPELLINGS: Mapping[str, Spelling] = {
    "embedding": spelling(
        (*rules((r"^inputs.*$", "input")), *_parameter_rules(schema.EmbeddingParameters)), "input"
    ),
    "image": spelling(
        (*rules((r"^prompt$", "input")), *_parameter_rules(schema.ImageParameters)), "input"
    ),
}
_OF_TEXTS = spelling(
    rules((r"^sampling\.(.+)$", r"parameters.\1"), (r"^(messages|prompts|text)\b.*$", "input")),
    "input",
)


def parse(data: bytes) -> schema.InferenceRequest:
    """Reads a body, as far as that can be done without knowing the model.

    Raises:
        ProblemError: it is broken, or lacks something.
    """
    body = decode(_BODY, data)
    if _first(body.input) not in _GIVEN:
        raise invalid(
            "Invalid type for 'input': expected a string, an object or an array.",
            "input",
            "invalid_type",
        )
    return body


def is_named(body: schema.InferenceRequest) -> bool:
    """Tells whether the input is an object, with a name for each array."""
    return _first(body.input) == b"{"


def check_input(body: schema.InferenceRequest, kind: str) -> None:
    """Raises where a model of a kind takes other input, or none."""
    takes = _TAKES.get(kind)
    if takes is None:
        message = (
            f"The model `{body.model}` is of the type {kind}: it takes part in no inference. "
            f"Use an endpoint for models of that type."
        )
        raise invalid(message, "model")
    first = _first(body.input)
    if (first == b'"') != (kind != "tensor"):
        message = (
            f"Invalid type for 'input': the model `{body.model}` is of the type {kind} and takes "
            f"{takes}, but got {_GIVEN[first]} instead."
        )
        raise invalid(message, "input", "invalid_type")


def to_text_request(data: bytes, model: str) -> inference_pb2.InferRequest:
    """Translates a request to a chat or completion model.

    Raises:
        ProblemError: a parameter is nothing that a text model could take.
    """
    body = decode(_TEXT, data)
    return inference_pb2.InferRequest(
        model=model, text=body.input, parameters=to_struct(body.parameters or {})
    )


def to_embed_request(data: bytes, body: schema.InferenceRequest) -> embedding_service.EmbedRequest:
    """Translates a request to an embedding model.

    Raises:
        ProblemError: a parameter is unknown or wrong.
    """
    _refuse_unknown(body.parameters, schema.EmbeddingParameters)
    asked = decode(_EMBEDDING, data)
    given = asked.parameters or schema.EmbeddingParameters()
    return embedding_service.EmbedRequest(
        model=body.model,
        inputs=[embedding_pb2.EmbeddingInput(text=asked.input)],
        dimensions=given.dimensions,
        normalize=given.normalize,
        prompt_name=given.prompt_name or "",
    )


def to_image_request(data: bytes, body: schema.InferenceRequest) -> image_pb2.ImageRequest:
    """Translates a request to an image model.

    Raises:
        ProblemError: a parameter is unknown or wrong.
    """
    _refuse_unknown(body.parameters, schema.ImageParameters)
    asked = decode(_IMAGE, data)
    given = asked.parameters or schema.ImageParameters()
    values = {
        name: value for name, value in msgspec.structs.asdict(given).items() if value is not None
    }
    return image_pb2.ImageRequest(
        model=body.model,
        prompt=asked.input,
        output_format=image_pb2.OUTPUT_FORMAT_PNG,
        **values,
    )


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Writes parameters as the inference service takes them, which knows their names and types.

    Raises:
        ProblemError: one is nothing that any parameter is.
    """
    struct = struct_pb2.Struct()
    for name, value in values.items():
        path = _path(name)
        if value is None:
            struct.fields[name].null_value = struct_pb2.NULL_VALUE
            continue
        if name == "stop" and isinstance(value, str):
            value = [value]
        _check_value(value, path)
        struct.update({name: value})
    return struct


def spelled(problem: Problem, kind: str) -> Problem:
    """Spells the field of a problem as the dialect does."""
    return _SPELLINGS.get(kind, _OF_TEXTS)(problem)


def _first(raw: msgspec.Raw) -> bytes:
    return bytes(raw).lstrip()[:1]


def _check_value(value: Any, path: str) -> None:
    """Raises where a value is no number, text or boolean, nor a flat list or object of them."""
    items: list[Any] = [value]
    if isinstance(value, list):
        items = cast("list[Any]", value)
    elif isinstance(value, dict):
        items = list(cast("dict[str, Any]", value).values())
    for item in items:
        if item is None or isinstance(item, list | dict):
            message = f"Invalid type for '{path}': no parameter is nested like this."
            raise invalid(message, path, "invalid_type")
        if isinstance(item, int) and abs(item) > _EXACT:
            message = f"Invalid '{path}': whole numbers beyond 2^53 are not exact here."
            raise invalid(message, path)


def _refuse_unknown(values: schema.Values | None, known: type[msgspec.Struct]) -> None:
    names = known.__struct_fields__
    for name in values or ():
        if name not in names:
            near = difflib.get_close_matches(name[:SHOWN], names, 1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(names)}."
            path = _path(name)
            raise invalid(f"Unknown parameter '{path}'. {hint}", path)


def _path(name: str) -> str:
    return f"parameters.{name[:SHOWN].encode('unicode_escape').decode('ascii')}"
