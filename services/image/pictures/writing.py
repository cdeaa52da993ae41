"""Pictures written as files, with what they were drawn with."""

import platform
from dataclasses import dataclass
from enum import Enum
from io import BytesIO

import PIL
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from services.errors import InvalidArgument
from services.image.pictures.exif import PREFIX, write_comment

_FULL_COLOUR_QUALITY = 90
"""From here on JPEGs keep colours at full size instead of half of it."""

_SEGMENT = 65535 - 2 - len(PREFIX)
"""Bytes of EXIF data that fit into a segment of a JPEG."""


class OutputFormat(Enum):
    """Formats that are written. The value is the media type."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    WEBP = "image/webp"

    @property
    def max_side(self) -> int:
        """Width or height in pixels that the format can hold."""
        return {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383}[self.name]


@dataclass(frozen=True, slots=True)
class OutputFile:
    """How a picture is written."""

    format: OutputFormat = OutputFormat.PNG
    quality: int = 100
    """In [0, 100]; 100 is the best. A PNG is lossless and has none.

    JPEG: libjpeg's scale; from 90 on colours keep their full size. WebP: libwebp's scale below 100,
    and lossless at 100.
    """


def writers() -> str:
    """Names what decides the bytes of files: others may write the same picture otherwise."""
    codecs = {name: features.version(name) for name in ("jpg", "webp", "zlib", "zlib_ng")}
    codecs["libjpeg_turbo"] = features.version("libjpeg_turbo")
    found = [f"pillow-{PIL.__version__}", platform.machine()]
    return "_".join([*found, *(f"{name}-{version}" for name, version in codecs.items() if version)])


def write_picture(image: Image.Image, file: OutputFile, infotext: str = "") -> tuple[bytes, str]:
    """Returns the file and its media type; the same picture always gives the same bytes.

    `image` is RGB, RGBA or L. The infotext stands in a PNG as text `parameters`, in other files as
    user comment of their EXIF data; an empty one is left out. A JPEG shows what is transparent on
    white.

    Raises:
        InvalidArgument: the picture is too wide or too high for the format.
    """
    if max(image.size) > file.format.max_side:
        raise InvalidArgument(
            f"A {file.format.name} has at most {file.format.max_side} pixels per side; the picture "
            f"is {image.width}x{image.height}. Ask for PNG, or for a smaller picture.",
            field="output_format",
        )
    image = image.copy()
    image.info.clear()  # nothing of the file that it may once have been read from
    write = {
        OutputFormat.PNG: _png,
        OutputFormat.JPEG: _jpeg,
        OutputFormat.WEBP: _webp,
    }[file.format]
    return write(image, file.quality, infotext), file.format.value


def on_white(image: Image.Image) -> Image.Image:
    """Returns a picture in RGB, with white where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    with_alpha = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(with_alpha.convert("RGB"), mask=with_alpha.getchannel("A"))
    return canvas


def _png(image: Image.Image, quality: int, infotext: str) -> bytes:
    texts = PngInfo()
    if infotext:
        texts.add_text("parameters", infotext)  # iTXt where Latin-1 can't hold it
    out = BytesIO()
    image.save(out, "PNG", pnginfo=texts)
    return out.getvalue()


def _jpeg(image: Image.Image, quality: int, infotext: str) -> bytes:
    out = BytesIO()
    subsampling = "4:4:4" if quality >= _FULL_COLOUR_QUALITY else "4:2:0"
    on_white(image).save(out, "JPEG", quality=max(quality, 1), subsampling=subsampling)
    data = out.getvalue()
    if not infotext:
        return data
    # Pillow refuses EXIF data of more than one segment; readers, itself among them, join several.
    exif = write_comment(infotext)
    pieces = [PREFIX + exif[at : at + _SEGMENT] for at in range(0, len(exif), _SEGMENT)]
    segments = b"".join(b"\xff\xe1" + (2 + len(piece)).to_bytes(2) + piece for piece in pieces)
    end_of_jfif = 4 + int.from_bytes(data[4:6])
    return data[:end_of_jfif] + segments + data[end_of_jfif:]


def _webp(image: Image.Image, quality: int, infotext: str) -> bytes:
    out = BytesIO()
    exif = write_comment(infotext) if infotext else b""
    if quality == 100:
        # Here quality is effort; `exact` keeps colours even where nobody can see them.
        image.save(out, "WEBP", lossless=True, quality=50, method=2, exact=True, exif=exif)
    else:
        image.save(out, "WEBP", quality=quality, method=4, exif=exif)
    return out.getvalue()
