"""Paths of the dialect: `/branch/{branch}/ai/{operation}`, and three older ways to say that."""

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from gateway.errors import Problem, ProblemError

OPERATIONS = ("embeddings", "rag")


class Target(NamedTuple):
    """What a path names."""

    branch: str
    operation: str


def target_of(scope: Scope) -> Target:
    """Reads the path of a request as it was sent: a branch may hold encoded slashes.

    Raises:
        ProblemError: it is no path of the dialect.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    match raw.partition(b"?")[0].split(b"/"):
        case [b"", b"branch" | b"db", branch, b"ai", operation] if branch:
            pass
        case [b"", b"branch" | b"db", branch, b"ext", b"ai", operation] if branch:
            pass
        case _:
            raise _unknown()
    try:
        target = Target(unquote_to_bytes(branch).decode(), operation.decode())
    except UnicodeDecodeError:
        raise _unknown() from None
    if target.operation not in OPERATIONS:
        raise _unknown()
    return target


def _unknown() -> ProblemError:
    return ProblemError(Problem("UNKNOWN_URL", "Unknown path"))
