"""Forms with files, read as they arrive: their size, parts and memory are bounded."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from types import TracebackType

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive, Scope

from gateway.bodies import body_pieces
from gateway.context import context_of
from gateway.errors import Problem, ProblemError, invalid

MEDIA_TYPE = "multipart/form-data"

_LONGEST_NAME = 256
_LONGEST_HEADERS = 8 * 1024
_BOUNDARY = re.compile(rb"[!-~]([ -~]{0,198}[!-~])?")
_CHARSETS = {"utf-8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "latin-1"}
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})

# It would warn of each broken request, with the bytes of the caller.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class FormLimits:
    """How much a form may hold."""

    body_bytes: int
    """Size of the whole body."""
    memory_bytes: int
    """A file that is larger goes to a temporary file on disk."""
    parts: int = 64
    """Texts and files together."""
    text_bytes: int = 1024 * 1024
    """All texts together."""


class Upload:
    """A file of a form."""

    def __init__(self, name: str, filename: str, content_type: str, memory_bytes: int) -> None:
        self.name = name
        self.filename = filename
        """What the client calls it: no path of ours."""
        self.content_type = content_type
        """Its media type, as the client says; may be empty."""
        self.size = 0
        self.file = SpooledTemporaryFile[bytes](max_size=memory_bytes)
        self._memory_bytes = memory_bytes

    async def write(self, data: bytes) -> None:
        """Adds to its end; on disk in a thread."""
        self.size += len(data)
        if self.size > self._memory_bytes:
            await asyncio.to_thread(self.file.write, data)
        else:
            self.file.write(data)

    def data(self) -> bytes:
        """Reads all of it."""
        self.file.seek(0)
        return self.file.read()

    async def pieces(self, size: int) -> AsyncGenerator[bytes, None]:
        """Reads it piece by piece; from disk in a thread."""
        self.file.seek(0)
        while True:
            if self.size > self._memory_bytes:
                piece = await asyncio.to_thread(self.file.read, size)
            else:
                piece = self.file.read(size)
            if not piece:
                return
            yield piece

    def close(self) -> None:
        """Frees its memory and its place on disk."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class Form:
    """A form, in the order of its parts. Close it to free its files."""

    texts: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Names and values."""
    files: list[Upload] = field(default_factory=list[Upload])

    def __enter__(self) -> "Form":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for file in self.files:
            file.close()


def media_type(scope: Scope) -> str:
    """The media type that a request says its body has, without parameters; may be empty."""
    content_type = context_of(scope).headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower()


async def read_form(scope: Scope, receive: Receive, limits: FormLimits) -> Form:
    """Reads a `multipart/form-data` body to its end.

    Raises:
        ProblemError: it is none, is broken or cut short, goes beyond a limit, or stalls.
        ClientGoneError: the client left before its end.
    """
    content_type = context_of(scope).headers.get("content-type", "")
    reader = _FormReader(_boundary(content_type), limits)
    try:
        async with aclosing(body_pieces(scope, receive, limits.body_bytes)) as pieces:
            async for piece in pieces:
                await reader.feed(piece)
        return reader.finish()
    except BaseException:
        reader.form.__exit__(None, None, None)
        raise


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != MEDIA_TYPE.encode("ascii"):
        shown = content_type[:_LONGEST_NAME] or "nothing"
        raise _malformed(
            f"Expected a body of type {MEDIA_TYPE}, but its Content-Type says {shown}."
        )
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise _malformed(
            "The Content-Type must name the boundary of the parts, 1 to 200 characters."
        )
    return boundary


class _FormReader:
    """Takes a body piece by piece; the parser calls back within `feed`."""

    def __init__(self, boundary: bytes, limits: FormLimits) -> None:
        self.form = Form()
        self._limits = limits
        self._ended = False
        self._count = 0
        self._text_bytes = 0
        self._header_bytes = 0
        self._header = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, str] = {}
        self._name = ""
        self._charset = "utf-8"
        self._text: bytearray | None = None
        self._writes: list[tuple[Upload, bytes]] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._open,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
                "on_end": self._on_end,
            },
        )

    async def feed(self, piece: bytes) -> None:
        """Takes the next piece."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _malformed(
                f"We could not parse the body of your request as {MEDIA_TYPE}: "
                "its parts don't follow the boundary that the Content-Type names."
            ) from None
        writes, self._writes = self._writes, []
        for upload, data in writes:
            await upload.write(data)

    def finish(self) -> Form:
        """Returns the form after the last piece."""
        if not self._ended:
            raise _malformed("The body of your request ends before the last boundary of its form.")
        return self.form

    def _begin(self) -> None:
        self._count += 1
        if self._count > self._limits.parts:
            raise _malformed(f"The form has more than {self._limits.parts} parts.")
        self._header_bytes = 0
        self._headers = {}

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._check_headers(end - start)
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._check_headers(end - start)
        self._value += data[start:end]

    def _check_headers(self, added: int) -> None:
        self._header_bytes += added
        if self._header_bytes > _LONGEST_HEADERS:
            raise _malformed(f"A part of the form has over {_LONGEST_HEADERS} bytes of headers.")

    def _on_header_end(self) -> None:
        value = self._value.decode("utf-8", "replace")
        self._headers.setdefault(bytes(self._header).lower(), value)
        self._header.clear()
        self._value.clear()

    def _open(self) -> None:
        """The headers of a part are there: it is a text or a file."""
        disposition, options = _options(self._headers.get(b"content-disposition", ""))
        name = options.get("name", "")
        if disposition != "form-data" or not name or len(name) > _LONGEST_NAME or "\ufffd" in name:
            raise _malformed(
                "Each part of the form needs a header Content-Disposition: form-data with a name "
                f"of at most {_LONGEST_NAME} characters in UTF-8."
            )
        self._name = name
        encoding = self._headers.get(b"content-transfer-encoding", "").strip().lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise invalid(f"Invalid '{name}': send the part as it is, not encoded.", name)
        content_type = self._headers.get(b"content-type", "")
        kind, type_options = _options(content_type)
        if kind.startswith("multipart/"):
            raise invalid(f"Invalid '{name}': a form inside of a form is not read.", name)
        filename = options.get("filename")
        if (
            filename is None
            and not kind.startswith("image/")
            and kind != "application/octet-stream"
        ):
            self._charset = type_options.get("charset", "utf-8").lower()
            if self._charset not in _CHARSETS:
                raise invalid(f"Invalid '{name}': texts must be in UTF-8.", name)
            self._text = bytearray()
            return
        self._text = None
        memory_bytes = self._limits.memory_bytes
        upload = Upload(name, (filename or "")[:_LONGEST_NAME], kind, memory_bytes)
        self.form.files.append(upload)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self._writes.append((self.form.files[-1], data[start:end]))
            return
        self._text_bytes += end - start
        if self._text_bytes > self._limits.text_bytes:
            raise ProblemError(
                Problem(
                    "BODY_TOO_LARGE",
                    f"The texts of the form are larger than {self._limits.text_bytes} bytes.",
                    self._name,
                )
            )
        self._text += data[start:end]

    def _end(self) -> None:
        if self._text is None:
            return
        try:
            text = self._text.decode(_CHARSETS[self._charset])
        except UnicodeDecodeError:
            raise invalid(f"Invalid '{self._name}': not a text in UTF-8.", self._name) from None
        self.form.texts.append((self._name, text))
        self._text = None

    def _on_end(self) -> None:
        self._ended = True


def _options(value: str) -> tuple[str, dict[str, str]]:
    kind, options = parse_options_header(value.encode("utf-8").decode("latin-1"))
    decoded = {
        key.decode("latin-1"): text.decode("utf-8", "replace") for key, text in options.items()
    }
    return kind.decode("latin-1"), decoded


def _malformed(message: str) -> ProblemError:
    return ProblemError(Problem("MALFORMED_BODY", message))
