"""PNG files taken apart."""

import zlib
from collections.abc import Iterator
from functools import partial

from services.image.pictures.containers import MAX_PARTS, Container, Damaged, Kind, Text

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHECKED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT"))
"""Chunks whose checksum counts: those that a decoder gets."""

_GREY, _TRUECOLOUR, _PALETTE = 0, 2, 3


def dissect(data: bytes) -> Container:
    """Takes a PNG apart. Of an animation its default image is left, as a rule the first frame.

    Raises:
        Damaged: it is cut off, a checksum is wrong, or a part is missing.
    """
    header = b""
    kept: dict[bytes, bytes] = {}
    pixels: list[memoryview] = []
    texts: list[Text] = []
    exif = b""
    for kind, body in _chunks(data):
        if not header:
            if kind != b"IHDR" or len(body) != 13:
                raise Damaged("has no PNG header")
            header = bytes(body)
        elif kind == b"IHDR":
            raise Damaged("has two PNG headers")
        elif kind == b"IDAT":
            pixels.append(body)
        elif kind in (b"PLTE", b"tRNS") and not pixels:
            kept[kind] = bytes(body)
        elif kind == b"eXIf":
            exif = bytes(body)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            texts.extend(_text(kind, bytes(body)))
    if not pixels:
        raise Damaged("holds no pixels")
    depth, colour = header[8], header[9]
    if depth not in (1, 2, 4, 8, 16):
        raise Damaged("is damaged: its PNG header makes no sense")
    if colour == _PALETTE and b"PLTE" not in kept:
        raise Damaged("has no palette")
    transparent = kept.pop(b"tRNS", b"")
    key_colour = _key_colour(transparent, depth, colour)
    if colour == _PALETTE and transparent:
        kept[b"tRNS"] = transparent
    bare = [SIGNATURE, *_chunk(b"IHDR", header)]
    for kind, body in kept.items():
        bare += _chunk(kind, body)
    bare += [*_chunk(b"IDAT", *pixels), *_chunk(b"IEND")]
    width, height = (int.from_bytes(header[at : at + 4]) for at in (0, 4))
    return Container(Kind.PNG, width, height, bare, exif, texts, key_colour=key_colour)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view = memoryview(data)
    at = len(SIGNATURE)
    for _ in range(MAX_PARTS):
        if at == len(data):  # only the end mark is missing, of which nobody takes notice
            return
        body_at, kind = at + 8, data[at + 4 : at + 8]
        end = body_at + int.from_bytes(data[at : at + 4])
        if len(kind) < 4 or end + 4 > len(data):
            raise Damaged("is cut off")
        if kind == b"IEND":
            return
        if kind in _CHECKED and zlib.crc32(view[at + 4 : end]) != int.from_bytes(
            view[end : end + 4]
        ):
            raise Damaged("is damaged: a checksum is wrong")
        yield kind, view[body_at:end]
        at = end + 4
    raise Damaged(f"is made of more than {MAX_PARTS} chunks")


def _chunk(kind: bytes, *bodies: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Writes one chunk out of several bodies: a decoder reads that much faster than many chunks."""
    checksum = zlib.crc32(kind)
    for body in bodies:
        checksum = zlib.crc32(body, checksum)
    yield sum(len(body) for body in bodies).to_bytes(4) + kind
    yield from bodies
    yield checksum.to_bytes(4)


def _key_colour(transparent: bytes, depth: int, colour: int) -> tuple[int, ...] | None:
    """Returns the transparent colour in the values that Pillow decodes to.

    Those are 8 bits per channel, greys of fewer bits spread over them; only a lone grey channel
    keeps its 16.
    """
    most = (1 << depth) - 1  # higher bits have no meaning
    values = [
        int.from_bytes(transparent[at : at + 2]) & most for at in range(0, len(transparent), 2)
    ]
    if colour == _GREY and len(values) == 1:
        return tuple(value * 255 // most if depth < 8 else value for value in values)
    if colour == _TRUECOLOUR and len(values) == 3:
        return tuple(value >> 8 if depth == 16 else value for value in values)
    return None


def _text(kind: bytes, body: bytes) -> Iterator[Text]:
    """Reads a text chunk; one that breaks the rules is left out: the pixels don't need it."""
    name, found, rest = body.partition(b"\0")
    if not name or not found:
        return
    key = name.decode("latin-1")
    if kind == b"tEXt":
        yield Text(key, partial(_plain, rest), "latin-1")
    elif kind == b"zTXt" and rest[:1] == b"\0":
        yield Text(key, partial(_inflate, rest[1:]), "latin-1")
    elif kind == b"iTXt" and rest[:2] in (b"\0\0", b"\1\0"):
        fields = rest[2:].split(b"\0", 2)
        if len(fields) == 3:
            yield Text(key, partial(_inflate if rest[0] else _plain, fields[2]), "utf-8")


def _plain(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise Damaged("holds too much text")
    return body


def _inflate(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        return b""
    return _plain(unpacked, limit)
