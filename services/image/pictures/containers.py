"""What the files of pictures have in common: each is taken apart before any decoder sees it.

A decoder gets a bare file that is put together from the parts it needs: no texts, colour profiles,
thumbnails or later frames. So what these hold can neither crash nor fill it, and whatever a file
claims of its size is checked before memory is taken for pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

MAX_PARTS = 1 << 18
"""Chunks or segments that a file may be made of: more than any encoder writes into 64 MiB."""


class Kind(Enum):
    """Formats that are read."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WebP"


class Damaged(Exception):  # noqa: N818  (reads as what happened)
    """The file breaks the rules of its format; the message says how, after "The picture"."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text entry of a file, not yet unpacked."""

    key: str
    unpack: Callable[[int], bytes]
    """Returns the bytes, at most as many as given; more of them raise `Damaged`."""
    encoding: str


@dataclass(frozen=True, slots=True)
class Container:
    """A file taken apart."""

    kind: Kind
    width: int
    height: int
    bare: Sequence[bytes | memoryview]
    """Pieces of a file of the same format that holds the picture alone."""
    exif: bytes = b""
    """EXIF data: a TIFF, from its byte order on. Empty when there is none."""
    texts: Sequence[Text] = ()
    key_colour: tuple[int, ...] | None = field(default=None, kw_only=True)
    """The one grey or colour that is transparent, in the values that decoding brings."""
