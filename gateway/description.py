"""The OpenAPI 3.1 document of the whole edge."""

from collections.abc import Mapping
from typing import Any

from gateway import openapi_headers
from gateway.dialects.anthropic.envelope import AnthropicDialect
from gateway.dialects.anthropic.operations import OPERATIONS as ANTHROPIC
from gateway.dialects.botserver.envelope import PREFIX
from gateway.dialects.botserver.operations import OPERATIONS as BOTSERVER
from gateway.dialects.botserver.operations import BotserverError
from gateway.dialects.gel.operations import OPERATIONS as GEL
from gateway.dialects.ollama.operations import OPERATIONS as OLLAMA
from gateway.dialects.open_inference.operations import OPERATIONS as OPEN_INFERENCE
from gateway.dialects.openai.answer_schema import ErrorBody
from gateway.dialects.openai.envelope import OpenAIDialect
from gateway.dialects.openai.operations import (
    CHAT,
    COMPLETION,
    OPERATIONS,
    PROMPT,
    chat_under,
    embeddings_under,
)
from gateway.dialects.velesio.answer_schema import VelesioError
from gateway.dialects.velesio.operations import operations as velesio_operations
from gateway.dialects.webui.operations import OPERATIONS as WEBUI
from gateway.openapi import HEALTH, document


def description() -> dict[str, Any]:
    """Makes the document."""
    velesio = velesio_operations(
        chat=CHAT, complete=COMPLETION, embed=embeddings_under("", VelesioError), prompt=PROMPT
    )
    botserver = chat_under(PREFIX, BotserverError), embeddings_under(PREFIX, BotserverError)
    others = (GEL, WEBUI, BOTSERVER, botserver, ANTHROPIC, OLLAMA, OPEN_INFERENCE, velesio)
    every = (HEALTH, OPERATIONS, *others)
    return document([operation for some in every for operation in some], ErrorBody, _headers)


def _headers(path: str) -> Mapping[str, Any]:
    if AnthropicDialect().owns(path):
        return openapi_headers.ANTHROPIC
    return openapi_headers.OPENAI if OpenAIDialect().owns(path) else openapi_headers.PLAIN
