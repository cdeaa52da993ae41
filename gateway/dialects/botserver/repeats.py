"""Requests that may be sent again without doing things twice."""

from gateway.context import RequestContext, printable
from gateway.errors import invalid

_HEADER = "idempotency-key"
_LONGEST = 128


def repeat_id(context: RequestContext) -> str:
    """The ID under which a request may be repeated; empty where its sender gave none.

    Raises:
        ProblemError: the service can't keep what was given.
    """
    given = context.headers.get(_HEADER, "").strip()
    if len(given) > _LONGEST or not printable(given):
        message = f"Invalid 'Idempotency-Key': use at most {_LONGEST} printable ASCII characters."
        raise invalid(message, "Idempotency-Key")
    return given
