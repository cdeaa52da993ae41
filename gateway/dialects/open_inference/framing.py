"""Bodies of the binary tensor extension: JSON, and the bytes of tensors behind it. No I/O."""

import zlib
from collections.abc import Mapping

from gateway.errors import Problem, ProblemError, invalid

HEADER = "inference-header-content-length"
"""Tells how long the JSON is."""

_DEFLATE_OR_GZIP = 47
"""Of zlib's window bits: the largest window, and either header."""


def opened(headers: Mapping[str, str], body: bytes, limit: int) -> tuple[bytes, bytes]:
    """Takes a body apart: its JSON, and the tensors behind it.

    Args:
        headers: of the request, by lower-case name.
        body: as it was sent.
        limit: bytes that it may have once it is inflated.

    Raises:
        ProblemError: it is not as its headers say.
    """
    body = _inflated(headers.get("content-encoding", "identity").strip().lower(), body, limit)
    told = headers.get(HEADER)
    if told is None:
        return body, b""
    told = told.strip()
    if not (told.isascii() and told.isdigit()) or len(told) > 18 or int(told) > len(body):
        raise invalid(
            f"The header 'Inference-Header-Content-Length' must tell how many of the body's "
            f"{len(body)} bytes are its JSON, not {told[:32]!r}.",
            "Inference-Header-Content-Length",
        )
    length = int(told)
    if not length:
        raise invalid(
            "A body without JSON is not taken: send the names, types and shapes of the inputs in "
            "front of their bytes.",
            "Inference-Header-Content-Length",
        )
    return body[:length], body[length:]


def _inflated(encoding: str, body: bytes, limit: int) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise invalid(
            f"The header 'Content-Encoding' may be gzip or deflate, not {encoding[:32]!r}.",
            "Content-Encoding",
        )
    inflating = zlib.decompressobj(_DEFLATE_OR_GZIP)
    try:
        inflated = inflating.decompress(body, limit + 1)
    except zlib.error:
        raise _broken(encoding) from None
    if len(inflated) > limit:
        message = f"The inflated request body is larger than the limit of {limit} bytes."
        raise ProblemError(Problem("BODY_TOO_LARGE", message))
    if not inflating.eof or inflating.unused_data:
        raise _broken(encoding)
    return inflated


def _broken(encoding: str) -> ProblemError:
    return invalid(
        f"The body is not what its header 'Content-Encoding' ({encoding}) says.", "Content-Encoding"
    )
