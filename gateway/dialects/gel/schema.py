"""Requests of Gel's AI extension.

An optional field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.raw_json import AnyJson

_INT32_MAX = 2**31 - 1

Text = Annotated[str, Meta(min_length=1)]
Text512 = Annotated[str, Meta(max_length=512)]
ModelId = Annotated[str, Meta(min_length=1, max_length=256)]
PositiveCount = Annotated[int, Meta(ge=1, le=_INT32_MAX)]
Bias = Annotated[float, Meta(ge=-100, le=100)]


class BranchEmbeddingsRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /branch/{branch}/ai/embeddings`. Older clients call the inputs `input`."""

    inputs: Text | Annotated[list[Text], Meta(min_length=1, max_length=2048)] | None = None
    input: Text | Annotated[list[Text], Meta(min_length=1, max_length=2048)] | None = None
    model: ModelId
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    user: Text512 | None = None


class RagContext(msgspec.Struct, kw_only=True):
    """What the answer is based on: a query, or the name of a type."""

    query: str
    variables: dict[str, Any] | None = None
    globals: dict[str, Any] | None = None
    max_object_count: PositiveCount | None = None


class TextPart(msgspec.Struct, kw_only=True):
    """One piece of what a user says."""

    type: Literal["text"]
    text: str


class RagFunctionCall(msgspec.Struct, kw_only=True):
    """A call that the assistant made."""

    name: str
    arguments: str


class RagToolCall(msgspec.Struct, kw_only=True):
    """A tool call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: RagFunctionCall


class CustomMessage(msgspec.Struct, kw_only=True):
    """A message put behind the stored prompt."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: Annotated[list[RagToolCall], Meta(max_length=128)] | None = None
    tool_call_id: Annotated[str, Meta(max_length=256)] | None = None


class RagPrompt(msgspec.Struct, kw_only=True):
    """The stored prompt, by name or ID, and messages behind it. With neither there is none."""

    name: str | None = None
    id: str | None = None
    custom: Annotated[list[CustomMessage], Meta(max_length=10_000)] | None = None


class RagFunction(msgspec.Struct, kw_only=True):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: AnyJson = msgspec.UNSET
    strict: bool | None = None


class RagTool(msgspec.Struct, kw_only=True):
    """A tool that the model may call."""

    type: Literal["function"]
    function: RagFunction


class RagRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /branch/{branch}/ai/rag`."""

    context: RagContext
    model: ModelId
    query: Text
    stream: bool | None = None
    prompt: RagPrompt | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: PositiveCount | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=_INT32_MAX)] | None = None
    logit_bias: Annotated[dict[str, Bias], Meta(max_length=1024)] | None = None
    logprobs: bool | Annotated[int, Meta(ge=0, le=20)] | None = None
    user: Text512 | None = None
    safe_prompt: bool | None = None
    tools: Annotated[list[RagTool], Meta(max_length=128)] | None = None
