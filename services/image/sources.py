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
from services.image.pictures.reading import PictureLimits, read_picture, read_texts
from services.image.requests import ImageRequest, MaskFill, Resize

T = TypeVar("T")

MOST_SIDE = 16_384
_THREADS = 2
"""So many pictures are decoded at a time: that bounds the memory it takes."""
_RESIZE = {
    Resize.STRETCH: ResizeMode.STRETCH,
    Resize.CROP: ResizeMode.CROP,
    Resize.FILL: ResizeMode.FILL,
    Resize.LATENT: ResizeMode.STRETCH,
}


class Threads:
    """Where pictures are decoded."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "pictures")

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
    size: tuple[int, int] = (0, 0)
    """Of the picture that comes out."""

    @property
    def held_bytes(self) -> int:
        """About what it holds in memory."""
        drawn = self.initial.width * self.initial.height * 3
        if self.mask is None:
            return drawn
        # The mask, and what the original is put back from.
        return drawn * 2 + self.size[0] * self.size[1] * 4


def read_initial(request: ImageRequest, number: int, limits: Limits) -> Image.Image:
    """Decodes an initial image. Raises `InvalidArgument`."""
    field = f"init_images[{number}]"
    return read_picture(request.init_images[number], field, _picture_limits(limits)).image


def read_mask(request: ImageRequest, limits: Limits) -> Image.Image | None:
    """Decodes the mask, if there is one. Raises `InvalidArgument`."""
    if request.inpainting is None:
        return None
    picture = read_picture(request.inpainting.mask, "inpainting.mask", _picture_limits(limits))
    return picture.as_mask()


def read_info(data: bytes, limits: Limits) -> dict[str, str]:
    """Returns the text entries of a file. Raises `InvalidArgument`."""
    return read_texts(data, "image", _picture_limits(limits))


def fitted(
    image: Image.Image, mask: Image.Image | None, asked: ImageRequest, multiple: int, limits: Limits
) -> Source:
    """Fits an initial image to a request that has everything filled in.

    Raises `InvalidArgument` where the mask is empty or too much would come out.
    """
    width, height = asked.width or 0, asked.height or 0
    mode = asked.resize_mode or Resize.STRETCH
    wish = asked.inpainting
    if wish is None or mask is None:
        if mode is Resize.LATENT:
            across, down = (max(multiple, side // multiple * multiple) for side in image.size)
            limits.check_size(across, down, "init_images")
            return Source(fit(image, across, down, ResizeMode.STRETCH), size=(width, height))
        return Source(fit(image, width, height, _RESIZE[mode]), size=(width, height))
    if wish.full_resolution:
        limits.check_size(*image.size, "init_images")  # of that size it comes out
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


def need_latent_resize(sources: Sequence[Source], asked: ImageRequest) -> bool:
    """Whether initial images are of another size than what is drawn."""
    return any(source.initial.size != (asked.width, asked.height) for source in sources)


def _picture_limits(limits: Limits) -> PictureLimits:
    return PictureLimits(max_pixels=limits.max_input_pixels, max_side=MOST_SIDE)
