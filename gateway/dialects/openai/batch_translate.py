"""Requests about batches, translated into requests of the training service. No I/O."""

import re
from collections.abc import Sequence
from dataclasses import replace

from google.protobuf.duration_pb2 import Duration
from penstock.training.v1 import batch_pb2, batch_service_pb2

from gateway.context import printable
from gateway.dialects.openai import batch_schema as schema
from gateway.dialects.openai.fields import Rule, spelling
from gateway.dialects.openai.file_translate import file_name, unknown_file
from gateway.errors import Problem, ProblemError, invalid

KEY_HEADER = "Idempotency-Key"
"""Makes a creation repeatable."""

_BATCH = "batches/"
_LONGEST_KEY = 128
_LONGEST_SHOWN = 64
_FILE_ID = re.compile(r"[^/]{1,250}")
_WINDOW_S = 24 * 3600
_RULES: Sequence[Rule] = (
    (re.compile(r"^(batch\.)?input_file$"), "input_file_id"),
    (re.compile(r"^(batch\.)?metadata.*$"), "metadata"),
    (re.compile(r"^(batch\.)?output_time_to_live.*$"), "output_expires_after.seconds"),
    (re.compile(r"^batch\.(.+)$"), r"\1"),
    (re.compile(r"^request_id$"), KEY_HEADER),
    (re.compile(r"^page_size$"), "limit"),
    (re.compile(r"^name$"), "batch_id"),
)
_spelled = spelling(_RULES)


def batch_name(batch_id: str) -> str:
    """The resource name of a batch."""
    return f"{_BATCH}{batch_id}"


def batch_id_of(name: str) -> str:
    """The ID of a batch, of its resource name."""
    return name.removeprefix(_BATCH)


def to_create_request(
    body: schema.BatchCreate, key: str | None
) -> batch_service_pb2.CreateBatchRequest:
    """Translates the creation of a batch; `key` is what the header `Idempotency-Key` says.

    Raises:
        ProblemError: the file can't be one, or the key is none.
    """
    if key and (len(key) > _LONGEST_KEY or not printable(key)):
        message = f"Invalid '{KEY_HEADER}': send at most {_LONGEST_KEY} printable characters."
        raise invalid(message, KEY_HEADER)
    if not _FILE_ID.fullmatch(body.input_file_id):
        raise ProblemError(_unknown_input(Problem("NOT_FOUND", ""), body))
    kept = body.output_expires_after
    batch = batch_pb2.Batch(
        input_file=file_name(body.input_file_id),
        endpoint=body.endpoint,
        completion_window=Duration(seconds=_WINDOW_S),
        metadata=body.metadata or {},
        output_time_to_live=kept and Duration(seconds=kept.seconds),
    )
    return batch_service_pb2.CreateBatchRequest(batch=batch, request_id=key or "")


def to_list_request(query: schema.BatchesQuery) -> batch_service_pb2.ListBatchesRequest:
    """Translates which page of the list is wanted."""
    after = batch_name(query.after) if query.after else ""
    return batch_service_pb2.ListBatchesRequest(page_size=query.limit, after=after)


def create_problem(problem: Problem, body: schema.BatchCreate) -> Problem:
    """Spells a problem of a creation."""
    told = _spelled(problem)
    if told.reason == "NOT_FOUND" and told.param == "input_file_id":
        return _unknown_input(told, body)
    return told


def respelled(problem: Problem, batch_id: str | None = None) -> Problem:
    """Spells a problem as the dialect does; `batch_id` is the batch that the request is about.

    An ID that can't be one is unknown, too.
    """
    is_about_batch = batch_id is not None and problem.param in (None, "name")
    is_malformed = problem.reason == "INVALID_ARGUMENT" and problem.param is not None
    if is_about_batch and (problem.reason == "NOT_FOUND" or is_malformed):
        assert batch_id is not None
        message = f"No batch found with id '{batch_id[:_LONGEST_SHOWN]}'."
        return replace(problem, reason="NOT_FOUND", message=message, param="batch_id", code=None)
    return _spelled(problem)


def _unknown_input(problem: Problem, body: schema.BatchCreate) -> Problem:
    return unknown_file(problem, body.input_file_id, "input_file_id")
