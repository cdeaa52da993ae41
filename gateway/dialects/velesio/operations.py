"""What the dialect serves at the root, for the OpenAPI document."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from gateway.dialects.velesio import answer_schema as answers
from gateway.dialects.velesio import schema
from gateway.openapi import Operation

_ASKED = (
    ("/template", "Names the family of a model's chat template.", answers.TemplateName),
    ("/props", "Tells how a model is served.", answers.Props),
)
_TEXTS = (
    ("/tokenize", "Turns a text into tokens.", answers.Tokens, schema.TokenizeBody),
    ("/detokenize", "Turns tokens into a text.", answers.Content, schema.DetokenizeBody),
    (
        "/slots",
        "Saves and restores nothing: no answer depends on it.",
        answers.SlotFile,
        schema.SlotBody,
    ),
)
_STATES = (
    ("/models", "Lists the models of texts and of images.", answers.Models),
    ("/queue/status", "Tells what waits, what runs and who works.", answers.Queue),
    ("/", "Tells what there is to ask.", answers.Banner),
)


def operations(
    *, chat: Operation, complete: Operation, embed: Operation, prompt: Operation
) -> Iterator[Operation]:
    """The operations; what is given are those in OpenAI's form, under whatever path."""
    yield replace(chat, path="/chat/completions", error=answers.VelesioError)
    yield replace(
        _both(complete, schema.LlamaCompletionRequest),
        path="/completion",
        summary="Continues a text, in the documented form or in that of llama.cpp's server.",
        answer=(
            complete.answer,
            answers.LlamaCompletion,
            list[answers.LlamaCompletion],
            # What `response_fields` leaves of it.
            dict[str, Any],
            list[dict[str, Any]],
        ),
    )
    for path in ("/embeddings", "/embedding"):
        yield replace(
            _both(embed, schema.ContentEmbeddingRequest),
            path=path,
            summary="Turns texts into vectors, in the form of the request.",
            answer=(embed.answer, answers.ContentVector, list[answers.ContentVectors]),
        )
    yield replace(prompt, path="/apply-template", error=answers.VelesioError)
    for path, summary, answer in _ASKED:
        yield _operation("get", path, summary, answer, query=schema.AnyModel)
        yield _operation("post", path, summary, answer, schema.AnyModel)
    for path, summary, answer, body in _TEXTS:
        yield _operation("post", path, summary, answer, body)
    for path, summary, answer in _STATES:
        yield _operation("get", path, summary, answer)


def _both(operation: Operation, body: type[msgspec.Struct]) -> Operation:
    """Adds a form of the request."""
    given = operation.body
    first = given if isinstance(given, tuple) else () if given is None else (given,)
    return replace(operation, body=(*first, body), error=answers.VelesioError)


def _operation(
    method: str,
    path: str,
    summary: str,
    answer: Any,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] | None = None,
) -> Operation:
    return Operation(
        method, path, summary, answer, body=body, query=query, error=answers.VelesioError
    )
