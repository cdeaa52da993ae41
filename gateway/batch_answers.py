"""Results of the requests of batches, as lines of their files. No I/O."""

from collections.abc import Callable, Mapping

import msgspec
from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb

from gateway.errors import Problem, invalid
from gateway.inside import InsideAnswer

LONGEST_RESULT = 48 * 1024 * 1024
"""A message to the service has to hold one."""

Refuse = Callable[[Problem], bytes]
"""Renders a problem as the body of an answer."""


class _Body(msgspec.Struct):
    """What counts of a request's body here."""

    stream: object = None


class _Response(msgspec.Struct):
    """What a request was answered with."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class _Line(msgspec.Struct):
    """A line of an output or error file."""

    id: str
    custom_id: str
    response: _Response
    error: None = None


_BODY = msgspec.json.Decoder(_Body)


def refused(line: work_pb.Line) -> Problem | None:
    """Tells why a request can't run in a batch, if it can't."""
    try:
        body = _BODY.decode(line.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # it is answered as any other that is no good
    if body.stream is not True:
        return None
    message = "Invalid 'stream': a batch has no streams. Leave it out, or send false."
    return invalid(message, "stream").problem


def result_of(line: work_pb.Line, answer: InsideAnswer, refuse: Refuse) -> work_pb.Result:
    """Makes the result of a request of its answer."""
    if len(answer.body) > LONGEST_RESULT:
        message = f"The answer has over {LONGEST_RESULT:,} bytes, the most that a batch keeps."
        answer = refusal(Problem("MESSAGE_TOO_LARGE", message), answer.headers, refuse)
    content = _Line(
        id=line.id,
        custom_id=line.custom_id,
        response=_Response(
            status_code=answer.status,
            request_id=answer.headers.get("x-request-id", ""),
            body=msgspec.Raw(_one_line(answer.body)),
        ),
    )
    return work_pb.Result(
        number=line.number, failed=answer.status >= 400, line=msgspec.json.encode(content)
    )


def refusal(problem: Problem, headers: Mapping[str, str], refuse: Refuse) -> InsideAnswer:
    """Makes the answer that tells of a problem."""
    return InsideAnswer(problem.status, headers, refuse(problem))


def _one_line(body: bytes) -> bytes:
    """The JSON of an answer without line ends; what is no JSON becomes a text."""
    try:
        if b"\n" in body:
            return msgspec.json.encode(msgspec.json.decode(body))
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.encode(body.decode("utf-8", "replace"))
    return body
