"""Makes files of pictures: what stays of the initial image put back, the infotext in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from services.errors import InvalidArgument, MessageTooLarge
from services.image.events import FinishedImage, PartialImage
from services.image.facts import Describer
from services.image.pictures import writing
from services.image.requests import Background, ImageRequest, OutputFormat

MOST_BYTES = 64 * 1024 * 1024
"""Of one file: what a message holds."""

Retouch = Callable[[Image.Image], Image.Image]
"""Makes the picture that is wanted of what was drawn."""

_FORMATS = {
    OutputFormat.PNG: writing.OutputFormat.PNG,
    OutputFormat.JPEG: writing.OutputFormat.JPEG,
    OutputFormat.WEBP: writing.OutputFormat.WEBP,
}


@dataclass(frozen=True, slots=True)
class FileFinisher:
    """The files of one job. For threads."""

    describer: Describer
    file: writing.OutputFile
    opaque: bool
    """Whether what is transparent becomes white."""
    size: tuple[int, int]
    """Of a finished picture."""
    retouches: Sequence[Retouch] = ()
    """By the number of the image in its batch. Empty: pictures stay as they are drawn."""

    def image(self, index: int, picture: Image.Image) -> FinishedImage:
        """The file of a finished picture."""
        infotext = self.describer.infotext(index)
        picture = self._retouched(index, picture)
        data, mime_type = self._written(picture, infotext)
        return FinishedImage(
            index=index,
            data=data,
            mime_type=mime_type,
            width=picture.width,
            height=picture.height,
            seed=self.describer.seed(index),
            subseed=self.describer.subseed(index),
            infotext=infotext,
        )

    def partial(self, index: int, partial_index: int, picture: Image.Image) -> PartialImage:
        """The file of a picture that is part of the way, in its final size."""
        picture = self._retouched(index, picture)
        if not self.retouches and picture.size != self.size:  # of a first pass
            picture = picture.resize(self.size, Image.Resampling.BICUBIC)
        data, mime_type = self._written(picture, "")
        return PartialImage(index, partial_index, data, mime_type, *picture.size)

    def info(self, images: Sequence[FinishedImage]) -> Mapping[str, Any]:
        """The WebUI's `info` object."""
        return self.describer.info(images)

    def _retouched(self, index: int, picture: Image.Image) -> Image.Image:
        if self.retouches:
            picture = self.retouches[index % len(self.retouches)](picture)
        return writing.on_white(picture) if self.opaque else picture

    def _written(self, picture: Image.Image, infotext: str) -> tuple[bytes, str]:
        data, mime_type = writing.write_picture(picture, self.file, infotext)
        if len(data) > MOST_BYTES:
            raise MessageTooLarge(
                f"An image of {picture.width}x{picture.height} has {len(data)} bytes as "
                f"{self.file.format.name}; a message holds {MOST_BYTES}. Ask for JPEG, or for a "
                f"smaller image."
            )
        return data, mime_type


def finisher(
    asked: ImageRequest,
    describer: Describer,
    size: tuple[int, int],
    retouches: Sequence[Retouch] = (),
) -> FileFinisher:
    """Makes the finisher of a request that has everything filled in.

    Raises `InvalidArgument` where the format can't hold pictures of that size.
    """
    format = _FORMATS[asked.output_format or OutputFormat.PNG]
    if max(size) > format.max_side:
        raise InvalidArgument(
            f"'output_format': a {format.name} has at most {format.max_side} pixels per side, not "
            f"{max(size)}. Ask for PNG.",
            field="output_format",
        )
    return FileFinisher(
        describer=describer,
        file=writing.OutputFile(format, 100 if asked.quality is None else asked.quality),
        opaque=asked.background is Background.OPAQUE,
        size=size,
        retouches=retouches,
    )
