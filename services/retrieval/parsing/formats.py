"""Which formats are read, and which one a document is in."""

import re
from dataclasses import dataclass
from enum import StrEnum

from services.errors import InvalidArgument

MIME_TYPE_FIELD = "document.mime_type"
DATA_FIELD = "document.data"
MAX_TITLE = 1024
SUPPORTED = "text/plain, text/markdown, text/html and application/pdf"

_SPACE = re.compile(r"\s+")
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*"
    rb"<(?:!doctype html|html|head|body|title|script|style|h1|h2|div|p|table|article|main)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
_FOREIGN = {
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"{\\rtf": "RTF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x1f\x8b": "a gzip archive",
}


class Format(StrEnum):
    """A format that is read; the value is its media type."""

    PLAIN = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was taken out of a document."""

    text: str
    """With `\\n` as line end, without U+0000."""
    title: str
    """What the document calls itself; empty when it doesn't say."""
    mime_type: str
    """What it is, in lower case and without parameters."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type, taken apart."""

    name: str
    format: Format
    charset: str
    """Empty when it names none."""


_ALIASES = {
    "text/x-markdown": Format.MARKDOWN,
    "text/md": Format.MARKDOWN,
    "application/xhtml+xml": Format.HTML,
    "application/x-pdf": Format.PDF,
}


def media_type(mime_type: str, content: str | bytes) -> MediaType:
    """Returns what the content is: as the media type says, else by its first bytes.

    Raises InvalidArgument for what can't be read.
    """
    name, _, parameters = mime_type.partition(";")
    name = name.strip().lower()
    if not name:
        found = Format.PLAIN if isinstance(content, str) else _sniff(content)
        return MediaType(found.value, found, "")
    if name in set(Format):
        format = Format(name)
    elif name in _ALIASES:
        format = _ALIASES[name]
    elif name.startswith("text/"):
        format = Format.PLAIN
    else:
        raise InvalidArgument(
            f"The media type {name} can't be read; {SUPPORTED} can.", field=MIME_TYPE_FIELD
        )
    if format is Format.PDF and isinstance(content, str):
        raise InvalidArgument(
            "A PDF is no text: send it in `data` instead of `text`.", field=MIME_TYPE_FIELD
        )
    return MediaType(name, format, _charset(parameters))


def shortened(title: str | None) -> str:
    """Returns a title on one line, no longer than titles may be."""
    return _SPACE.sub(" ", title or "").strip()[:MAX_TITLE]


def _charset(parameters: str) -> str:
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset":
            return value.strip().strip("\"'")
    return ""


def _sniff(content: bytes) -> Format:
    if b"%PDF-" in content[:1024]:
        return Format.PDF
    if _HTML.match(content[:4096]):
        return Format.HTML
    foreign = next((what for mark, what in _FOREIGN.items() if content.startswith(mark)), "")
    if foreign:
        raise InvalidArgument(
            f"The data looks like {foreign}, which can't be read; {SUPPORTED} can.",
            field=DATA_FIELD,
        )
    return Format.PLAIN
