"""Answers of Gel's AI extension."""

from typing import Any, Literal

import msgspec

Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class RagUsage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class RagTopLogprob(msgspec.Struct):
    """A token that might have been."""

    token: str
    logprob: float
    bytes: list[int]


class RagTokenLogprob(msgspec.Struct):
    """A token and its probability."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[RagTopLogprob]


class RagLogprobs(msgspec.Struct):
    """The tokens of a text."""

    content: list[RagTokenLogprob]
    refusal: None = None


class RagAnswerCall(msgspec.Struct):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    name: str
    args: Any
    """An object; text, when the model wrote none."""


class Rag(msgspec.Struct):
    """Body of the answer of `POST /branch/{branch}/ai/rag`.

    `text` is what Gel calls the answer since its sixth version, `response` before.
    """

    id: str
    model: str
    text: str | None
    finish_reason: Finish
    usage: RagUsage
    logprobs: RagLogprobs | None
    tool_calls: list[RagAnswerCall]
    response: str | None


class BranchEmbeddingUsage(msgspec.Struct):
    """Token counts of what was embedded."""

    prompt_tokens: int
    total_tokens: int


class BranchEmbedding(msgspec.Struct):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float]


class BranchEmbeddings(msgspec.Struct):
    """Body of the answer of `POST /branch/{branch}/ai/embeddings`."""

    object: Literal["list"]
    data: list[BranchEmbedding]
    model: str
    usage: BranchEmbeddingUsage


class GelError(msgspec.Struct):
    """Body of an error. What is no matter of the AI (paths, credentials) is told in plain text."""

    message: str
    type: str
