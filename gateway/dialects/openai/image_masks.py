"""Masks of edits: where OpenAI's are transparent, the image service's are white.

The service looks at brightness alone, so the edge has to look at transparency. A file is decoded
only when its head says that it has transparency and how large it is; two at a time; in a thread.
"""

import asyncio
import io
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from gateway.errors import ProblemError, invalid

_MOST_PIXELS = 2**25
"""As many as the image service takes unless it is told otherwise: 128 MiB once decoded."""
_AT_ONCE = 2
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that a request brought."""

    data: bytes
    field: str
    """Where it was in the request."""


class Masks:
    """Makes the masks of edits."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, "image-masks")

    async def mask_of(self, image: Picture, mask: Picture | None) -> bytes | None:
        """Makes the mask that the service understands; None draws all anew.

        Without a mask, the image's own transparent part is one, if it has any.

        Raises:
            ProblemError: the mask is no PNG or WebP, too large, without a transparent part, or not
                as large as the image.
        """
        if mask is None and not _may_be_transparent(image.data):
            return None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _mask, image, mask)


def _mask(image: Picture, mask: Picture | None) -> bytes | None:
    if mask is None:
        hole = _hole(image)
        return None if hole is None or hole.getbbox() is None else _png(hole)
    hole = _hole(mask)
    if hole is None or hole.getbbox() is None:
        raise _bad(mask, "no part of the mask is transparent; what is to be drawn anew must be")
    size = _turned_size(image.data)
    if size is not None and size != hole.size:
        raise _bad(
            mask,
            f"the mask has {hole.size[0]}x{hole.size[1]} pixels, "
            f"the image {size[0]}x{size[1]}; they must be equally large",
        )
    return _png(hole)


def _hole(picture: Picture) -> Image.Image | None:
    """White where a picture is fully transparent, else black; None when it can't be transparent."""
    if not _may_be_transparent(picture.data):
        return None
    width, height = _size(picture.data)
    if width * height > _MOST_PIXELS:
        raise _bad(picture, f"larger than {_MOST_PIXELS} pixels")
    try:
        with Image.open(io.BytesIO(picture.data), formats=("PNG", "WEBP")) as opened:
            if getattr(opened, "n_frames", 1) > 1:
                raise _bad(picture, "it moves; send a still picture")
            orientation = opened.getexif().get(_ORIENTATION)
            if opened.mode not in ("RGBA", "LA"):
                # A palette or one colour may be transparent, too.
                alpha = opened.convert("RGBA").getchannel("A")
            else:
                alpha = opened.getchannel("A")
    except ProblemError:
        raise
    except Exception:  # broken files break decoders in every way
        raise _bad(picture, "not a PNG or WebP file that can be read") from None
    if orientation in _TURNS:
        alpha = alpha.transpose(_TURNS[orientation])
    return alpha.point([255] + [0] * 255)


def _turned_size(data: bytes) -> tuple[int, int] | None:
    """The size of a picture as it is seen; None when the service has to say what is wrong."""
    if _is_webp(data):
        width, height = _size(data)
        if width * height > _MOST_PIXELS:  # opening it takes memory for its pixels
            return None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG")) as opened:
            width, height = opened.size
            return (height, width) if opened.getexif().get(_ORIENTATION, 1) > 4 else (width, height)
    except Exception:  # broken files break decoders in every way
        return None


def _may_be_transparent(data: bytes) -> bool:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        # Alpha in the colour type, or one transparent colour, which is told before the pixels.
        return data[25:26] in (b"\x04", b"\x06") or b"tRNS" in data[: data.find(b"IDAT") + 1]
    if _is_webp(data):
        kind = data[12:16]
        if kind == b"VP8X":
            return bool(data[20:21] and data[20] & 0x10)
        return kind == b"VP8L" and bool(data[24:25] and data[24] & 0x10)
    return False


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _size(data: bytes) -> tuple[int, int]:
    """The size that the head of a PNG or WebP file tells."""
    try:
        if not _is_webp(data):
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        kind = data[12:16]
        if kind == b"VP8X":
            width = int.from_bytes(data[24:27], "little") + 1
            return width, int.from_bytes(data[27:30], "little") + 1
        if kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    except struct.error:
        return 0, 0


def _png(mask: Image.Image) -> bytes:
    file = io.BytesIO()
    mask.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _bad(picture: Picture, why: str) -> ProblemError:
    return invalid(f"Invalid '{picture.field}': {why}.", picture.field)
