"""What the dialect serves, for the OpenAPI document."""

from typing import Any

import msgspec

from gateway.dialects.ollama import answer_schema as answers
from gateway.dialects.ollama import schema
from gateway.dialects.ollama.envelope import BARE, PREFIX
from gateway.dialects.ollama.line_stream import STREAM_TYPE
from gateway.openapi import Operation


def _operations(
    method: str,
    path: str,
    summary: str,
    answer: Any,
    body: type[msgspec.Struct] | None = None,
    streams: bool = False,
) -> list[Operation]:
    return [
        Operation(
            method,
            prefix + path,
            summary,
            answer,
            body=body,
            streams=streams,
            stream_type=STREAM_TYPE,
            error=answers.OllamaError,
        )
        for prefix in ((PREFIX, "") if path in BARE else (PREFIX,))
    ]


OPERATIONS = (
    *_operations(
        "post",
        "/chat",
        "Answers a conversation, for Ollama's clients.",
        answers.OllamaChatAnswer,
        schema.OllamaChatRequest,
        streams=True,
    ),
    *_operations(
        "post",
        "/generate",
        "Answers or continues a prompt, for Ollama's clients.",
        answers.OllamaGenerateAnswer,
        schema.OllamaGenerateRequest,
        streams=True,
    ),
    *_operations(
        "post",
        "/embed",
        "Turns texts into vectors, for Ollama's clients.",
        answers.OllamaEmbedAnswer,
        schema.OllamaEmbedRequest,
    ),
    *_operations(
        "post",
        "/embeddings",
        "Turns a text into a vector, for Ollama's clients.",
        answers.OllamaEmbeddingsAnswer,
        schema.OllamaEmbeddingsRequest,
    ),
    *_operations("get", "/tags", "Lists the models that answer.", answers.OllamaTags),
    *_operations("get", "/ps", "Lists the models that are loaded.", answers.OllamaProcesses),
    *_operations("post", "/show", "Shows a model.", answers.OllamaShown, schema.OllamaShowRequest),
    *_operations("get", "/version", "Tells the platform's version.", answers.OllamaVersion),
)
"""In the order of the routes. What manages models is answered 501, and is not listed."""
