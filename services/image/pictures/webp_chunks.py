"""WebP files taken apart."""

from collections.abc import Iterator

from services.image.pictures.containers import MAX_PARTS, Container, Damaged, Kind
from services.image.pictures.exif import PREFIX as EXIF_PREFIX

_ANIMATED_OR_ALPHA = 0b0001_0010
"""Flags of the extended header that speak of the picture; others announce what is left out."""

_WANTED = (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")


def is_webp(data: bytes) -> bool:
    """Tells whether a file begins like a WebP."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def dissect(data: bytes) -> Container:
    """Takes a WebP apart. Of an animation the first frame is left.

    Raises:
        Damaged: it is cut off or has no picture.
    """
    kept: dict[bytes, memoryview] = {}
    exif = b""
    for kind, body in _chunks(data):
        if kind in _WANTED:
            kept.setdefault(kind, body)
        elif kind == b"EXIF":
            exif = bytes(body).removeprefix(EXIF_PREFIX)
    if b"VP8 " in kept:
        kept.pop(b"VP8L", None)  # one picture: that which the size is taken from
    bare: list[bytes | memoryview] = []
    for kind in _WANTED:
        if kind in kept:
            bare += _chunk(kind, kept[kind])
    size = sum(len(part) for part in bare) + 4
    width, height = _size(kept)
    return Container(
        Kind.WEBP, width, height, [b"RIFF" + size.to_bytes(4, "little") + b"WEBP", *bare], exif
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view = memoryview(data)
    at = 12
    end_of_file = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(MAX_PARTS):
        if at + 8 > end_of_file:
            return
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            raise Damaged("is cut off")
        yield data[at : at + 4], view[at + 8 : end]
        at = end + end % 2
    raise Damaged(f"is made of more than {MAX_PARTS} chunks")


def _chunk(kind: bytes, body: memoryview) -> Iterator[bytes | memoryview]:
    yield kind + len(body).to_bytes(4, "little")
    if kind == b"VP8X":
        yield bytes([body[0] & _ANIMATED_OR_ALPHA]) if len(body) else b""
        yield body[1:]
    else:
        yield body
    if len(body) % 2:
        yield b"\0"


def _size(kept: dict[bytes, memoryview]) -> tuple[int, int]:
    """Returns the size of the canvas, from whichever header comes first for a decoder."""
    extended = kept.get(b"VP8X")
    if extended is not None and len(extended) >= 10:
        across, down = (int.from_bytes(extended[at : at + 3], "little") for at in (4, 7))
        return across + 1, down + 1
    lossy = kept.get(b"VP8 ")
    if lossy is not None and len(lossy) >= 10:
        across, down = (int.from_bytes(lossy[at : at + 2], "little") for at in (6, 8))
        return across & 0x3FFF, down & 0x3FFF
    lossless = kept.get(b"VP8L")
    if lossless is not None and len(lossless) >= 5:
        bits = int.from_bytes(lossless[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise Damaged("has no WebP header")
