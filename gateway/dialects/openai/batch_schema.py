"""Batches, as OpenAI documents them.

An optional field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from gateway.dialects.openai.embedding_schema import Text
from gateway.dialects.openai.file_schema import FileExpiry
from gateway.dialects.openai.schema import Labels

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
"""What the requests of a batch may be for."""
ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
"""The same, as paths."""
BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]


class BatchCreate(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/batches`."""

    input_file_id: Text
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Labels | None = None
    output_expires_after: FileExpiry | None = None


class BatchesQuery(msgspec.Struct, kw_only=True):
    """Which page of the list of batches is wanted."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class BatchProblem(msgspec.Struct):
    """Why a batch failed."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchProblems(msgspec.Struct):
    """Why a batch failed, each reason."""

    object: Literal["list"]
    data: list[BatchProblem]


class BatchRequestCounts(msgspec.Struct):
    """How many requests stand where."""

    total: int
    completed: int
    failed: int


class BatchObject(msgspec.Struct):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchProblems | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchRequestCounts
    metadata: dict[str, str] | None


class BatchList(msgspec.Struct):
    """Body of the answer of `GET /v1/batches`."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
