"""Files of pictures for tests: real ones, and pieces to build broken ones from."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from services.image.pictures.reading import PictureLimits

LIMITS = PictureLimits(max_pixels=1 << 20, max_side=4096, max_text_bytes=1 << 16)


def scene(width: int = 40, height: int = 24, mode: str = "RGB") -> Image.Image:
    """A picture in which no two corners look alike."""
    across = np.linspace(0, 255, width, dtype=np.uint8)[None, :].repeat(height, 0)
    down = np.linspace(255, 0, height, dtype=np.uint8)[:, None].repeat(width, 1)
    blocks = ((np.indices((height, width)) // 4).sum(0) % 2 * 90).astype(np.uint8)
    return Image.fromarray(np.stack([across, down, blocks], axis=-1)).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + body)
    return len(body).to_bytes(4) + kind + body + checksum.to_bytes(4)


def png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    rows: bytes,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG; `rows` are its lines with the filter byte, not yet packed."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", head),
            *(png_chunk(*chunk) for chunk in before),
            png_chunk(b"IDAT", zlib.compress(rows)),
            *(png_chunk(*chunk) for chunk in after),
            png_chunk(b"IEND"),
        ]
    )


def mended(data: bytes) -> bytes:
    """A PNG with its checksums put right, as far as its chunks can be followed."""
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(data):
            break
        out += [data[at:end], zlib.crc32(data[at + 4 : end]).to_bytes(4)]
        at = end + 4
    return b"".join([*out, data[at:]])


def zeros(size: int) -> bytes:
    """So many zero bytes (whole megabytes of them), packed: one packed block over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (size % 65521) << 16 | 1
    return b"\x78\xda" + block * (size >> 20) + packer.flush() + checksum.to_bytes(4)


def webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def exif(
    entries: Sequence[tuple[int, int, int, bytes]], tail: bytes = b"", order: str = "II"
) -> bytes:
    """EXIF data with one directory of (tag, type, count, four bytes) and what follows it."""
    sign, name = ("<", b"II*\0") if order == "II" else (">", b"MM\0*")
    head = name + struct.pack(sign + "IH", 8, len(entries))
    body = b"".join(
        struct.pack(sign + "HHI", tag, kind, count) + value for tag, kind, count, value in entries
    )
    return head + body + bytes(4) + tail
