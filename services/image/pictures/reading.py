"""Files of pictures, from callers who may mean harm: decoded, or refused with what is wrong.

Colour profiles are ignored, as the WebUI does: pixels that nobody asked to draw anew come back with
the very values they were sent with, and no profile of a stranger is ever run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from services.errors import InvalidArgument
from services.image.pictures import jpeg_segments, png_chunks, webp_chunks
from services.image.pictures.containers import Container, Damaged, Kind
from services.image.pictures.exif import read_exif

MAX_TEXTS = 1000
"""Text entries that are read of a file."""

_DECODERS: dict[Kind, Callable[[BytesIO], ImageFile]] = {
    Kind.PNG: PngImageFile,
    Kind.JPEG: JpegImageFile,
    Kind.WEBP: WebPImageFile,
}

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)
"""Those of them that swap width and height."""

_OTHERS = (
    ("a GIF", 0, b"GIF8"),
    ("a BMP", 0, b"BM"),
    ("a TIFF", 0, b"II*\0"),
    ("a TIFF", 0, b"MM\0*"),
    ("an AVIF or HEIC", 4, b"ftyp"),
    ("a JPEG XL", 0, b"\xff\x0a"),
    ("a Photoshop file", 0, b"8BPS"),
    ("a PDF", 0, b"%PDF"),
    ("SVG, HTML or other text", 0, b"<"),
)
"""What is often sent and not read: its name, and where it begins how."""


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What a file may ask for."""

    max_pixels: int
    """Width times height."""
    max_side: int
    """Width, and height."""
    max_text_bytes: int = 4 << 20
    """All text entries of a file together, unpacked."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture, turned as its EXIF data says."""

    image: Image.Image
    """RGB. Where it is transparent, white shows through, as much as it is transparent."""
    alpha: Image.Image | None
    """Mode L, 0 is transparent. None when all of it is opaque."""

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.image.height

    def as_mask(self) -> Image.Image:
        """Returns the picture as mask in mode L: white is drawn anew.

        A mask with transparent parts says by them what it means, as in the WebUI: what is opaque is
        drawn anew, whatever its colour. Any other says it by its brightness.
        """
        return self.image.convert("L") if self.alpha is None else self.alpha


def read_picture(data: bytes, field: str, limits: PictureLimits) -> Picture:
    """Decodes a PNG, JPEG or WebP; of an animation the first frame. Thread-safe.

    Raises:
        InvalidArgument: it is of another format, damaged, or larger than allowed.
    """
    container = _dissect(data, field)
    _check_size(container, field, limits)
    try:
        with _DECODERS[container.kind](BytesIO(b"".join(container.bare))) as file:
            if file.size != (container.width, container.height):
                raise Damaged("is damaged: its headers contradict each other")
            file.load()
            image, alpha = _separate(file, container.key_colour)
    except MemoryError:
        raise  # the file has been measured: it is the machine that is at fault
    except Exception as fault:  # whatever a decoder trips over is the file's
        raise InvalidArgument(
            f"The picture is damaged: its {container.kind.value} data can't be decoded. "
            "Save it anew and send that.",
            field=field,
        ) from fault
    turn = _TURNS.get(read_exif(container.exif).orientation)
    if turn is not None:
        image = image.transpose(turn)
        alpha = None if alpha is None else alpha.transpose(turn)
    return Picture(image, alpha)


def read_size(data: bytes, field: str, limits: PictureLimits) -> tuple[int, int]:
    """Returns width and height of the picture that `read_picture` would decode, by its headers.

    Raises:
        InvalidArgument: it is of another format, damaged so that its headers show it, or larger
            than allowed.
    """
    container = _dissect(data, field)
    _check_size(container, field, limits)
    if read_exif(container.exif).orientation in _LYING:
        return container.height, container.width
    return container.width, container.height


def read_texts(data: bytes, field: str, limits: PictureLimits) -> dict[str, str]:
    """Returns the text entries of a PNG, JPEG or WebP by their keys, without decoding its pixels.

    The user comment of EXIF data, where JPEG and WebP keep the infotext, is under `parameters`,
    unless the file has an entry of that name.

    Raises:
        InvalidArgument: it is of another format, damaged, or holds more text than allowed.
    """
    container = _dissect(data, field)
    found: dict[str, str] = {}
    left = limits.max_text_bytes
    if len(container.texts) > MAX_TEXTS:
        raise InvalidArgument(
            f"The picture has more than {MAX_TEXTS} text entries, the most that are read.",
            field=field,
        )
    try:
        for text in container.texts:
            raw = text.unpack(left)
            left -= len(raw)
            found[text.key] = raw.decode(text.encoding, "replace")
        exif = read_exif(container.exif)
        if len(exif.comment) > left:
            raise Damaged("holds too much text")
    except Damaged as fault:
        raise InvalidArgument(
            f"The picture holds more than {limits.max_text_bytes} bytes of text, the most that "
            "are read.",
            field=field,
        ) from fault
    if exif.text:
        found.setdefault("parameters", exif.text)
    return found


def _dissect(data: bytes, field: str) -> Container:
    try:
        if data.startswith(png_chunks.SIGNATURE):
            return png_chunks.dissect(data)
        if data.startswith(jpeg_segments.SIGNATURE):
            return jpeg_segments.dissect(data)
        if webp_chunks.is_webp(data):
            return webp_chunks.dissect(data)
    except Damaged as fault:
        raise InvalidArgument(
            f"The picture {fault}. Save it anew and send that.", field=field
        ) from fault
    if not data:
        raise InvalidArgument("The picture is empty. Send PNG, JPEG or WebP.", field=field)
    names = (name for name, at, mark in _OTHERS if data.startswith(mark, at))
    name = next(names, "no picture that is known")
    raise InvalidArgument(f"The file is {name}. Send PNG, JPEG or WebP.", field=field)


def _check_size(container: Container, field: str, limits: PictureLimits) -> None:
    width, height = container.width, container.height
    if not width or not height:
        raise InvalidArgument(f"The picture is {width}x{height} pixels: it is empty.", field=field)
    if max(width, height) > limits.max_side:
        raise InvalidArgument(
            f"The picture is {width}x{height} pixels; a side may have at most {limits.max_side}. "
            "Scale it down.",
            field=field,
        )
    if width * height > limits.max_pixels:
        raise InvalidArgument(
            f"The picture is {width}x{height} pixels, {width * height} in all; at most "
            f"{limits.max_pixels} are taken (max_input_pixels). Scale it down.",
            field=field,
        )


def _separate(
    file: Image.Image, key_colour: tuple[int, ...] | None
) -> tuple[Image.Image, Image.Image | None]:
    """Returns a picture in RGB, on white, and its alpha channel."""
    alpha = None
    if key_colour is not None:
        pixels = np.asarray(file if file.mode != "1" else file.convert("L"))
        hit = pixels == np.asarray(key_colour, pixels.dtype)
        transparent = hit.all(axis=2) if hit.ndim == 3 else hit
        alpha = Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8))
    if file.mode == "I;16":  # Pillow would clip it
        image = Image.fromarray((np.asarray(file) >> 8).astype(np.uint8)).convert("RGB")
    elif file.has_transparency_data:
        with_alpha = file.convert("RGBA")
        image, alpha = with_alpha.convert("RGB"), with_alpha.getchannel("A")
    else:
        image = file.convert("RGB")
    image.info.clear()
    if alpha is None or alpha.getextrema() == (255, 255):
        return image, None
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=alpha)
    return canvas, alpha
