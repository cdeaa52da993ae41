"""Files of OpenAI's dialect, to and from the training service's."""

from __future__ import annotations

from contextlib import closing
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.training.v1 import file_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.dialects.openai import file_answers as answers
from gateway.dialects.openai import file_schema as schema
from gateway.dialects.openai import file_translate as translate
from gateway.errors import Problem, ProblemError
from gateway.multipart import Upload


def header(filename: str, content_type: str = "", **more: object) -> service_pb2.FileHeader:
    body = schema.FileOptions(purpose="batch", **more)  # type: ignore[arg-type]
    with closing(Upload("file", filename, content_type, 1024)) as upload:
        return translate.to_header(body, upload)


def test_every_purpose_has_a_word() -> None:
    known = set(file_pb2.FilePurpose.values()) - {file_pb2.FILE_PURPOSE_UNSPECIFIED}
    assert set(translate.PURPOSES.values()) == known
    assert set(translate.PURPOSES) == set(get_args(schema.AnyPurpose))
    of_services = {file_pb2.FILE_PURPOSE_FINE_TUNE_RESULTS, file_pb2.FILE_PURPOSE_BATCH_OUTPUT}
    uploads = {translate.PURPOSES[word] for word in get_args(schema.Purpose)}
    assert uploads == known - of_services


@given(st.text(max_size=300))
def test_a_filename_is_one_that_the_service_takes_or_refused(given: str) -> None:
    refused: Problem | None = None
    name = ""
    try:
        name = header(given).filename
    except ProblemError as error:
        refused = error.problem
    if refused is not None:
        assert refused.param == "file"
        return
    assert name
    assert name not in (".", "..")
    assert not set(name) & {"/", "\\", *map(chr, range(32)), "\x7f"}
    assert len(name.encode()) <= 255
    assert not given or given.replace("\\", "/").endswith(name)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("", ""),
        ("application/octet-stream", ""),
        ("application/jsonl", "application/jsonl"),
        ("text/plain", "text/plain"),
    ],
)
def test_types(given: str, sent: str) -> None:
    assert header("a", given).mime_type == sent


def test_expiry() -> None:
    assert not header("a").HasField("time_to_live")
    expiry = schema.FileExpiry(anchor="created_at", seconds=2592000)
    assert header("a", expires_after=expiry).time_to_live.seconds == 30 * 24 * 60 * 60


def test_list_requests() -> None:
    request = translate.to_list_request(schema.UploadedFilesQuery())
    assert (request.purpose, request.page_size, request.after) == (0, 10_000, "")
    assert request.order_by == "create_time desc"
    query = schema.UploadedFilesQuery(
        purpose="fine-tune-results", limit=3, order="asc", after="file-1"
    )
    request = translate.to_list_request(query)
    assert request.purpose == file_pb2.FILE_PURPOSE_FINE_TUNE_RESULTS
    assert (request.page_size, request.after) == (3, "files/file-1")
    assert request.order_by == "create_time"


@pytest.mark.parametrize(
    ("reason", "param", "is_unknown"),
    [
        ("NOT_FOUND", "name", True),
        ("NOT_FOUND", None, True),
        ("INVALID_ARGUMENT", "name", True),
        ("INVALID_ARGUMENT", "offset_bytes", False),
        ("FAILED_PRECONDITION", "name", False),
        ("UNAVAILABLE", None, False),
    ],
)
def test_unknown_files(reason: str, param: str | None, is_unknown: bool) -> None:
    problem = Problem(reason, "what the service says", param)
    told = translate.unknown_file(problem, "file-1", "training_file")
    if is_unknown:
        assert (told.status, told.param) == (404, "training_file")
        assert told.message == "No such File object: file-1"
    else:
        assert told == problem


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("header.filename", "file"),
        ("filename", "file"),
        ("header.sha256", "file"),
        ("chunk", "file"),
        ("header.purpose", "purpose"),
        ("purpose", "purpose"),
        ("header.time_to_live", "expires_after.seconds"),
        ("page_size", "limit"),
        ("after", "after"),
        ("name", "id"),
    ],
)
def test_spelling(path: str, param: str) -> None:
    problem = Problem("INVALID_ARGUMENT", f"'{path}' is wrong", path)
    told = translate.spell_file(problem)
    assert (told.param, told.message) == (param, f"'{param}' is wrong")


def test_objects() -> None:
    file = file_pb2.File(
        name="files/file-1",
        filename="a.jsonl",
        purpose=file_pb2.FILE_PURPOSE_FINE_TUNE_RESULTS,
        size_bytes=7,
        sha256="x",
        owner="somebody",
    )
    file.create_time.seconds = 5
    made = answers.file_object(file)
    assert made == schema.FileObject(
        "file-1", "file", 7, 5, "a.jsonl", "fine-tune-results", "processed", None, None
    )
    file.expire_time.seconds = 9
    page = answers.file_list(service_pb2.ListFilesResponse(files=[file], next_page_token="x"))
    assert page.data[0].expires_at == 9
    assert (page.first_id, page.last_id, page.has_more) == ("file-1", "file-1", True)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_filename_can_not_add_headers(name: str) -> None:
    file = file_pb2.File(name="files/file-1", filename=name, size_bytes=3)
    headers = dict(answers.content_headers(file))
    value = headers[b"content-disposition"]
    assert value.isascii()
    assert not set(value[len(b"attachment; filename*=UTF-8''") :]) & set(b'\r\n";, \x00')
