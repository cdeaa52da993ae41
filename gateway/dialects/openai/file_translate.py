"""Requests about files, translated into requests of the training service. No I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.protobuf.duration_pb2 import Duration
from penstock.training.v1 import file_pb2
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.dialects.openai import file_schema as schema
from gateway.dialects.openai.fields import Rule, spelling
from gateway.errors import Problem, ProblemError, invalid
from gateway.multipart import Upload

PURPOSES: Mapping[str, file_pb2.FilePurpose.ValueType] = {
    "fine-tune": file_pb2.FILE_PURPOSE_FINE_TUNE,
    "fine-tune-results": file_pb2.FILE_PURPOSE_FINE_TUNE_RESULTS,
    "batch": file_pb2.FILE_PURPOSE_BATCH,
    "batch_output": file_pb2.FILE_PURPOSE_BATCH_OUTPUT,
    "user_data": file_pb2.FILE_PURPOSE_USER_DATA,
    "assistants": file_pb2.FILE_PURPOSE_ASSISTANTS,
    "vision": file_pb2.FILE_PURPOSE_VISION,
    "evals": file_pb2.FILE_PURPOSE_EVALS,
}
"""By the dialect's word."""

_PREFIX = "files/"
_NAMELESS = "upload"
"""What a file is called whose sender doesn't say, as the SDKs call it too."""
_LONGEST_NAME_BYTES = 255
_LONGEST_TYPE = 128
_LONGEST_SHOWN = 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ANY_TYPE = "application/octet-stream"

_RULES: Sequence[Rule] = (
    (re.compile(r"^(header\.)?(filename|mime_type|size_bytes|sha256)$"), "file"),
    (re.compile(r"^(chunk|header)$"), "file"),
    (re.compile(r"^header\.purpose$"), "purpose"),
    (re.compile(r"^(header\.)?time_to_live$"), "expires_after.seconds"),
    (re.compile(r"^page_size$"), "limit"),
    (re.compile(r"^name$"), "id"),
)
spell_file = spelling(_RULES)
"""Spells fields of requests about files."""


def file_name(file_id: str) -> str:
    """The resource name of a file."""
    return f"{_PREFIX}{file_id}"


def file_id_of(name: str) -> str:
    """The ID of a file, of its resource name."""
    return name.removeprefix(_PREFIX)


def to_header(body: schema.FileOptions, upload: Upload) -> service_pb2.FileHeader:
    """Translates what is known of an upload.

    Raises:
        ProblemError: the file has a name or a type that none can have.
    """
    mime_type = upload.content_type if upload.content_type != _ANY_TYPE else ""
    if len(mime_type) > _LONGEST_TYPE:
        raise invalid(f"Invalid 'file': its type has over {_LONGEST_TYPE} characters.", "file")
    return service_pb2.FileHeader(
        filename=_filename(upload.filename),
        purpose=PURPOSES[body.purpose],
        mime_type=mime_type,
        size_bytes=upload.size,
        time_to_live=body.expires_after and Duration(seconds=body.expires_after.seconds),
    )


def to_list_request(query: schema.UploadedFilesQuery) -> service_pb2.ListFilesRequest:
    """Translates which page of the list is wanted."""
    return service_pb2.ListFilesRequest(
        purpose=PURPOSES[query.purpose] if query.purpose else file_pb2.FILE_PURPOSE_UNSPECIFIED,
        page_size=query.limit,
        after=file_name(query.after) if query.after else "",
        order_by="create_time" if query.order == "asc" else "create_time desc",
    )


def unknown_file(problem: Problem, file_id: str, param: str = "id") -> Problem:
    """Says in OpenAI's words that there is no such file, where that is the problem.

    An ID that can't be one is unknown, too.
    """
    is_malformed = problem.reason == "INVALID_ARGUMENT" and problem.param == "name"
    if problem.reason != "NOT_FOUND" and not is_malformed:
        return problem
    message = f"No such File object: {file_id[:_LONGEST_SHOWN]}"
    return replace(problem, reason="NOT_FOUND", message=message, param=param, code=None)


def _filename(given: str) -> str:
    """The name without its folders, which some clients send."""
    name = given.replace("\\", "/").rpartition("/")[2]
    if not given:
        return _NAMELESS
    if name in ("", ".", "..") or _CONTROL.search(name):
        raise _bad_name("a file can't be called that")
    if len(name.encode("utf-8")) > _LONGEST_NAME_BYTES:
        raise _bad_name(f"its name has over {_LONGEST_NAME_BYTES} bytes")
    return name


def _bad_name(why: str) -> ProblemError:
    return invalid(f"Invalid 'file': {why}. Send it under another filename.", "file")
