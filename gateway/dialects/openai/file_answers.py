"""Answers of the training service about files, translated. No I/O."""

from collections.abc import Mapping
from urllib.parse import quote

from penstock.training.v1 import file_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.dialects.openai import file_schema as schema
from gateway.dialects.openai.answers import seconds
from gateway.dialects.openai.file_translate import PURPOSES, file_id_of

_WORDS: Mapping[int, schema.AnyPurpose] = {value: word for word, value in PURPOSES.items()}  # type: ignore[misc]


def file_object(file: file_pb2.File) -> schema.FileObject:
    """Renders a file."""
    return schema.FileObject(
        id=file_id_of(file.name),
        object="file",
        bytes=file.size_bytes,
        created_at=seconds(file.create_time),
        filename=file.filename,
        purpose=_WORDS.get(file.purpose, "user_data"),
        status="processed",
        expires_at=seconds(file.expire_time) if file.HasField("expire_time") else None,
        status_details=None,
    )


def file_list(page: service_pb2.ListFilesResponse) -> schema.FileList:
    """Renders a page of files."""
    data = [file_object(file) for file in page.files]
    return schema.FileList(
        object="list",
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=bool(page.next_page_token),
    )


def content_headers(file: file_pb2.File) -> list[tuple[bytes, bytes]]:
    """Headers of a file's content: it is saved, never shown, whatever is in it."""
    name = quote(file.filename, safe="").encode("ascii")
    return [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % file.size_bytes),
        (b"content-disposition", b"attachment; filename*=UTF-8''" + name),
        (b"x-content-type-options", b"nosniff"),
    ]
