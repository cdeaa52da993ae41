"""JPEG files taken apart."""

import re
from collections.abc import Iterator

from services.image.pictures.containers import MAX_PARTS, Container, Damaged, Kind, Text
from services.image.pictures.exif import PREFIX as EXIF_PREFIX

SIGNATURE = b"\xff\xd8\xff"

MAX_SCANS = 64
"""Scans that a progressive file may have; encoders write about ten.

Each costs a decoder a pass over all pixels, however few bytes it is.
"""

_SOI, _EOI, _SOS, _COM, _JFIF, _EXIF, _ADOBE = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0, 0xE1, 0xEE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES = frozenset((0xC4, 0xCC, 0xDB, 0xDC, 0xDD))
"""Tables of codes and quantization, line count, restart interval."""
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a body."""
_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_AFTER_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""The next marker behind the codes of a scan, in which restart marks stand."""


def dissect(data: bytes) -> Container:
    """Takes a JPEG apart, up to its end mark. Where that is missing a decoder has to say what is.

    Raises:
        Damaged: it is cut off before its pixels, has several frames, or very many scans.
    """
    view = memoryview(data)
    bare: list[bytes | memoryview] = [b"\xff\xd8"]
    exif: list[bytes] = []
    texts: list[Text] = []
    size: tuple[int, int] | None = None
    scan_count = 0
    for marker, start, body_at, end in _segments(data):
        body = view[body_at:end]
        if marker == _EOI:
            bare.append(view[start:end])
        elif marker in _FRAMES:
            if size is not None or len(body) < 6:
                raise Damaged("is damaged: its JPEG frame is not as it must be")
            size = int.from_bytes(body[3:5]), int.from_bytes(body[1:3])
        elif marker == _SOS:
            scan_count += 1
            if size is None:
                raise Damaged("is damaged: its JPEG frame is missing")
            if scan_count > MAX_SCANS:
                raise Damaged(f"has more than {MAX_SCANS} scans")
        elif marker == _EXIF and bytes(body[:6]) == EXIF_PREFIX:
            exif.append(bytes(body[6:]))  # long data goes on in further segments
        elif marker == _COM and not texts:
            texts.append(_comment(bytes(body)))
        if (
            marker in _FRAMES
            or marker in _TABLES
            or marker == _SOS
            or (marker == _JFIF and bytes(body[:5]) == b"JFIF\0")
            or (marker == _ADOBE and bytes(body[:5]) == b"Adobe")
        ):
            bare.append(view[start:end])
    if size is None or not scan_count:
        raise Damaged("is cut off before its pixels")
    return Container(Kind.JPEG, *size, bare, b"".join(exif), texts)


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yields marker, start, start of the body and end; a scan's codes belong to its segment."""
    at = 2
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            yield marker, at - 2, at, at
            return
        if marker in _BARE:
            continue
        start, body_at = at - 2, at + 2
        end = at + int.from_bytes(data[at:body_at])
        if marker == _SOI or end < body_at or end > len(data):
            raise Damaged("is cut off or damaged")
        if marker == _SOS:
            behind = _AFTER_SCAN.search(data, end)
            end = len(data) if behind is None else behind.start()
        yield marker, start, body_at, end
        at = end
    raise Damaged(f"is made of more than {MAX_PARTS} segments")


def _comment(body: bytes) -> Text:
    def unpack(limit: int) -> bytes:
        if len(body) > limit:
            raise Damaged("holds too much text")
        return body

    return Text("comment", unpack, "utf-8")
