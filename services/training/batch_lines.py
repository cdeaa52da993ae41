"""The lines of a batch's file: what makes them good, and where they stand."""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass

import msgspec

from services.training.batch_records import BatchError

LONGEST_LINE = 16 * 1024 * 1024
MOST_ERRORS = 100
_LONGEST_ID = 512
_MARK = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_SHOWN = 64


class _Line(msgspec.Struct):
    """A line, each of its values as it is written."""

    custom_id: msgspec.Raw = msgspec.Raw()
    method: msgspec.Raw = msgspec.Raw()
    url: msgspec.Raw = msgspec.Raw()
    body: msgspec.Raw = msgspec.Raw()


_DECODER = msgspec.json.Decoder(_Line)


@dataclass(frozen=True, slots=True)
class Request:
    """What a good line asks for."""

    custom_id: str
    body: bytes
    """JSON object."""


class BadLine(Exception):  # noqa: N818 - reads as what happened
    """A line is no good."""

    def __init__(self, code: str, message: str, param: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def parse_line(line: bytes, endpoint: str) -> Request:
    """Reads a line. Raises `BadLine`."""
    if len(line) > LONGEST_LINE:
        raise BadLine("line_too_long", f"The line has over {LONGEST_LINE:,} bytes.")
    try:
        found = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadLine(
            "invalid_json_line", "This line is not parseable as valid JSON: send an object."
        ) from None
    custom_id = _text(found.custom_id, "custom_id")
    if len(custom_id) > _LONGEST_ID:
        raise BadLine(
            "invalid_custom_id", f"'custom_id' has over {_LONGEST_ID} characters.", "custom_id"
        )
    if _text(found.method, "method") != "POST":
        raise BadLine("invalid_method", "'method' must be 'POST'.", "method")
    url = _text(found.url, "url")
    if url != endpoint:
        raise BadLine(
            "mismatched_url",
            f"'url' is {url[:_SHOWN]!r}, and the batch was made for {endpoint!r}.",
            "url",
        )
    body = bytes(found.body)
    if not body or body == b"null":
        raise _missing("body")
    if not body.startswith(b"{"):
        raise BadLine("invalid_body", "'body' must be an object.", "body")
    return Request(custom_id, body)


def _text(raw: msgspec.Raw, name: str) -> str:
    data = bytes(raw)
    if not data or data == b"null":
        raise _missing(name)
    try:
        text = msgspec.json.decode(data, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadLine(f"invalid_{name}", f"'{name}' must be a text.", name) from None
    if not text:
        raise _missing(name)
    return text


def _missing(name: str) -> BadLine:
    return BadLine("missing_required_parameter", f"'{name}' is missing or empty.", name)


class Check:
    """Checks all lines of a file, one after the other."""

    def __init__(self, endpoint: str, most_lines: int) -> None:
        self._endpoint = endpoint
        self._most = most_lines
        self._known: dict[str, int] = {}
        self.count = 0
        """Requests so far."""
        self.errors: list[BatchError] = []
        """Of the first lines that are no good."""

    @property
    def hopeless(self) -> bool:
        """Whether reading on would tell nothing new."""
        return self.count > self._most or len(self.errors) >= MOST_ERRORS

    def feed(self, line: bytes, number: int) -> None:
        """Takes the next line that is not blank; `number` is its own, from 1 on."""
        self.count += 1
        if self.count > self._most:
            # It stands for the file, whatever else is wrong with it.
            self.errors = [
                BatchError(
                    "too_many_requests",
                    f"The file has more than {self._most:,} requests. Split it.",
                    line=number,
                )
            ]
            return
        try:
            request = parse_line(line, self._endpoint)
            before = self._known.setdefault(request.custom_id, number)
            if before != number:
                raise BadLine(
                    "duplicate_custom_id",
                    f"The custom_id {request.custom_id[:_SHOWN]!r} stands in line {before}, too.",
                    "custom_id",
                )
        except BadLine as wrong:
            self.errors.append(BatchError(wrong.code, str(wrong), wrong.param, number))

    def end(self) -> None:
        """Takes the end of the file."""
        if self.count == 0:
            self.errors.append(BatchError("empty_file", "The file has no requests."))


@dataclass(frozen=True, slots=True)
class Piece:
    """A line of a file."""

    content: bytes
    """Without its end. Cut off where it is longer than any may be."""
    number: int
    """From 1 on."""
    end: int
    """Offset of what follows it."""

    @property
    def blank(self) -> bool:
        """Whether there is nothing in it."""
        return not self.content.strip(_SPACE)


async def split_lines(
    pieces: AsyncIterable[bytes], *, offset: int = 0
) -> AsyncGenerator[list[Piece], None]:
    """Splits what comes into lines, many at once. `offset` is where the first one begins."""
    rest: list[bytes] = []
    held = 0
    number, end = 0, offset
    async for piece in pieces:
        *whole, last = piece.split(b"\n")
        found: list[Piece] = []
        for part in whole:
            end += held + len(part) + 1
            number += 1
            found.append(
                Piece(_whole([*rest, part], first=number == 1 and offset == 0), number, end)
            )
            rest, held = [], 0
        if held <= LONGEST_LINE:
            rest.append(last)
        held += len(last)
        if found:
            yield found
    if held:
        first = number == 0 and offset == 0
        yield [Piece(_whole(rest, first=first), number + 1, end + held)]


def _whole(parts: list[bytes], *, first: bool) -> bytes:
    line = b"".join(parts).rstrip(b"\r")
    return line.removeprefix(_MARK) if first else line
