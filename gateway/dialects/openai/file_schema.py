"""Files, as OpenAI documents them.

An optional field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Purpose = Literal["fine-tune", "batch", "user_data", "assistants", "vision", "evals"]
"""What an upload can be for."""
AnyPurpose = Literal[
    "fine-tune",
    "fine-tune-results",
    "batch",
    "batch_output",
    "user_data",
    "assistants",
    "vision",
    "evals",
]
"""What a file can be for."""
FilePart = Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/octet-stream"})]
"""A part of a form that is a file. Only the description of the API knows it."""


class FileExpiry(msgspec.Struct, kw_only=True):
    """When a file is deleted by itself: so long after its upload."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=60 * 60, le=30 * 24 * 60 * 60)]


class FileOptions(msgspec.Struct, kw_only=True):
    """What `POST /v1/files` takes beside the file."""

    purpose: Purpose
    expires_after: FileExpiry | None = None


class FileForm(FileOptions, kw_only=True):
    """Body of `POST /v1/files`, a form."""

    file: FilePart


class UploadedFilesQuery(msgspec.Struct, kw_only=True):
    """Which page of the list of files is wanted."""

    purpose: AnyPurpose | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class FileObject(msgspec.Struct):
    """A file. It is there whole or not at all, so that it is always processed."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: AnyPurpose
    status: Literal["processed"]
    expires_at: int | None
    status_details: None


class FileList(msgspec.Struct):
    """Body of the answer of `GET /v1/files`."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(msgspec.Struct):
    """Body of the answer of `DELETE /v1/files/{file_id}`."""

    id: str
    object: Literal["file"]
    deleted: bool
