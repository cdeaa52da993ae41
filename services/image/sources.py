"""Initial images and masks: decoded in threads, and fitted to what is drawn."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from services.image.files import Retouch
from services.image.limits import Limits
from services.image.pictures.fitting import ResizeMode, fit
from services.image.pictures.masking import InpaintWishes, prepare_inpainting
from services.image.pictures.reading import PictureLimits, read_picture, read_size, read_texts
from services.image.requests import ImageRequest, MaskFill, Resize

T = TypeVar("T")

Size = tuple[int, int]
"""Width and height."""

MOST_SIDE = 16_384
THREADS = 2
"""So many initial images, each with its mask, are decoded at a time. One piece of work takes one
from its file to what is drawn, so that none lies in memory in full while it waits."""
_RGB_BYTES = 4
"""Of a pixel, as Pillow keeps them; of a mask it is one."""
_RESIZE = {
    Resize.STRETCH: ResizeMode.STRETCH,
    Resize.CROP: ResizeMode.CROP,
    Resize.FILL: ResizeMode.FILL,
    Resize.LATENT: ResizeMode.STRETCH,
}


class Threads:
    """Where pictures are decoded."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "pictures")

    async def run(self, work: Callable[[], T]) -> T:
        """Runs work on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Lets the threads end once what they do is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What one image of a batch starts from."""

    initial: Image.Image
    mask: Image.Image | None = None
    retouch: Retouch | None = None
    size: Size = (0, 0)
    """Of the picture that comes out."""


def read_sizes(request: ImageRequest, limits: Limits) -> list[Size]:
    """Sizes of the initial images, by their headers; looks at the mask's too.

    Raises `InvalidArgument`.
    """
    allowed = _picture_limits(limits)
    if request.inpainting is not None:
        read_size(request.inpainting.mask, "inpainting.mask", allowed)
    return [
        read_size(data, f"init_images[{number}]", allowed)
        for number, data in enumerate(request.init_images)
    ]


def held_bytes(sizes: Sequence[Size], asked: ImageRequest, multiple: int, limits: Limits) -> int:
    """About what the sources of initial images hold in memory, of a request that has everything
    filled in.

    Raises `InvalidArgument` where too much would come out.
    """
    drawn = asked.width or 0, asked.height or 0
    wish, total = asked.inpainting, 0
    for size in sizes:
        if wish is None:
            if asked.resize_mode is Resize.LATENT:
                limits.check_size(*_rounded(size, multiple), "init_images")
                total += _RGB_BYTES * _pixels(_rounded(size, multiple))
            else:
                total += _RGB_BYTES * _pixels(drawn)
            continue
        if wish.full_resolution:
            limits.check_size(*size, "init_images")  # of that size it comes out
        # With the mask; and what the original is put back from.
        out = size if wish.full_resolution else drawn
        total += (_RGB_BYTES + 1) * (_pixels(drawn) + _pixels(out))
    return total


def read_source(asked: ImageRequest, number: int, multiple: int, limits: Limits) -> Source:
    """Decodes an initial image and the mask of a request that has everything filled in, and fits
    them to it. For a thread: what is decoded in full is let go of before it returns.

    Raises `InvalidArgument` where a file is broken or the mask is empty.
    """
    allowed = _picture_limits(limits)
    width, height = asked.width or 0, asked.height or 0
    mode = asked.resize_mode or Resize.STRETCH
    wish = asked.inpainting
    image = read_picture(asked.init_images[number], f"init_images[{number}]", allowed).image
    if wish is None:
        size = _rounded(image.size, multiple) if mode is Resize.LATENT else (width, height)
        return Source(fit(image, *size, _RESIZE[mode]), size=(width, height))
    mask = read_picture(wish.mask, "inpainting.mask", allowed).as_mask()
    work = prepare_inpainting(
        image,
        mask,
        width,
        height,
        InpaintWishes(
            invert=wish.invert_mask,
            blur_pixels=wish.blur_pixels or 0,
            fill_surroundings=wish.fill is MaskFill.SURROUNDINGS,
            full_resolution=bool(wish.full_resolution),
            padding_pixels=wish.padding_pixels or 0,
            resize_mode=_RESIZE[mode],
        ),
    )
    return Source(work.initial, work.mask, work.finish, (work.width, work.height))


def read_info(data: bytes, limits: Limits) -> dict[str, str]:
    """Returns the text entries of a file. Raises `InvalidArgument`."""
    return read_texts(data, "image", _picture_limits(limits))


def need_latent_resize(sources: Sequence[Source], asked: ImageRequest) -> bool:
    """Whether initial images are of another size than what is drawn."""
    return any(source.initial.size != (asked.width, asked.height) for source in sources)


def _picture_limits(limits: Limits) -> PictureLimits:
    return PictureLimits(max_pixels=limits.max_input_pixels, max_side=MOST_SIDE)


def _rounded(size: Size, multiple: int) -> Size:
    """A size that can be encoded."""
    width, height = (max(multiple, side // multiple * multiple) for side in size)
    return width, height


def _pixels(size: Size) -> int:
    return size[0] * size[1]
