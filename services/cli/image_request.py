"""What `penstock image` asks for, from the words of its command line."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.image.v1 import image_pb2

from services.cli.failures import UsageFailure
from services.cli.image_files import MAX_BYTES, read_picture

_TOGETHER = 4
"""Most images that are drawn in one batch: they are finished together."""
_SIZE = re.compile(r"(\d{1,5})(?:[xX×](\d{1,5}))?")
_FORMATS: Mapping[str, image_pb2.OutputFormat.ValueType] = {
    "png": image_pb2.OUTPUT_FORMAT_PNG,
    "jpeg": image_pb2.OUTPUT_FORMAT_JPEG,
    "webp": image_pb2.OUTPUT_FORMAT_WEBP,
}


@dataclass(frozen=True)
class Wishes:
    """What the command line says; None where it says nothing."""

    prompt: str
    model: str | None
    negative: str
    size: str | None
    steps: int | None
    cfg: float | None
    seed: int | None
    sampler: str
    scheduler: str
    count: int
    init: Path | None
    strength: float | None
    mask: Path | None
    quality: int | None


def to_request(wishes: Wishes, format_: str) -> image_pb2.ImageRequest:
    """Returns the request. Raises UsageFailure for what makes no sense."""
    if wishes.init is None:
        for name, value in (("strength", wishes.strength), ("mask", wishes.mask)):
            if value is not None:
                raise UsageFailure(f"--{name} needs a picture to start from: --init FILE.")
    if wishes.quality is not None and format_ == "png":
        raise UsageFailure("--quality is for JPEG and WebP: PNG loses nothing.")
    width, height = _sides(wishes.size)
    together = batch_size(wishes.count)
    request = image_pb2.ImageRequest(
        model=wishes.model or "",
        prompt=wishes.prompt,
        negative_prompt=wishes.negative,
        width=width,
        height=height,
        steps=wishes.steps,
        cfg_scale=wishes.cfg,
        seed=wishes.seed,
        sampler=wishes.sampler,
        scheduler=wishes.scheduler,
        batch_size=together,
        batch_count=wishes.count // together,
        denoising_strength=wishes.strength,
        output_format=_FORMATS[format_],
        quality=wishes.quality,
    )
    if wishes.init is not None:
        request.init_images.append(read_picture(wishes.init))
    if wishes.mask is not None:
        request.inpainting.mask = read_picture(wishes.mask)
    if request.ByteSize() > MAX_BYTES:
        raise UsageFailure(
            f"The pictures are larger than {MAX_BYTES // 1024**2} MiB together.",
            hint="Make them smaller: they are fitted to the image's size anyway.",
        )
    return request


def batch_size(count: int) -> int:
    """Returns how many of so many images make a batch, so that all batches are whole.

    How they are shared out changes no image: number k has the seed of the first plus k.
    """
    return next(size for size in range(min(count, _TOGETHER), 0, -1) if count % size == 0)


def _sides(size: str | None) -> tuple[int | None, int | None]:
    if size is None:
        return None, None
    found = _SIZE.fullmatch(size.strip())
    if found is None:
        raise UsageFailure(f"{size!r} is no size.", hint="Write 512 or 768x512: width x height.")
    width = int(found[1])
    return width, int(found[2]) if found[2] else width
