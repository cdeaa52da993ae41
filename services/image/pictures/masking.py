"""Inpainting: what the engine draws of a picture, and how that is put back into it."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter, ImageOps

from services.errors import InvalidArgument
from services.image.pictures.fitting import Box, ResizeMode, fit, inner_box, place
from services.image.pictures.surroundings import fill_surroundings

_WHITE_FROM = 129
"""What is darker counts as black, so that the noise of a JPEG is no mask."""


@dataclass(frozen=True, slots=True)
class InpaintWishes:
    """What is asked for; `Inpainting` of `protos/penstock/image/v1/image.proto`."""

    invert: bool = False
    """Draws the black part of the mask instead."""
    blur_pixels: int = 4
    """Softness of the mask's edge, in pixels of the picture that comes out."""
    fill_surroundings: bool = False
    """Whether drawing starts from the colours around the mask rather than from what was there."""
    full_resolution: bool = True
    """Draws the masked part at full size and puts it back; else the whole picture is fitted."""
    padding_pixels: int = 0
    """Pixels around the masked part that are drawn with it, with `full_resolution`."""
    resize_mode: ResizeMode = ResizeMode.STRETCH


@dataclass(frozen=True, slots=True, eq=False)
class InpaintWork:
    """What to draw, and how to make the picture of it."""

    initial: Image.Image
    """RGB, of the size to draw."""
    mask: Image.Image
    """Mode L, of that size; white is drawn anew, grey in part."""
    width: int
    """Width of the picture that comes out: with full resolution the original's."""
    height: int
    finish: Callable[[Image.Image], Image.Image]
    """Makes the picture, in RGB, of what was drawn (of any size: a preview works too).

    What lies outside the mask and its soft edge has the very pixels of the (fitted) original.
    """


def prepare_inpainting(
    initial: Image.Image,
    mask: Image.Image,
    width: int,
    height: int,
    wishes: InpaintWishes,
    field: str = "inpainting.mask",
) -> InpaintWork:
    """Works out what to draw, at `width` and `height`.

    `initial` is RGB, `mask` mode L. A mask of another size than the picture is fitted with the
    resize mode, as the picture would be.

    Raises:
        InvalidArgument: the mask has no white part, so nothing would be drawn.
    """
    if wishes.full_resolution:
        return _draw_part(initial, mask, width, height, wishes, field)
    original = fit(initial, width, height, wishes.resize_mode)
    hole = _hole(mask, width, height, wishes, field)
    soft = ImageChops.lighter(hole, _blurred(hole, wishes.blur_pixels))
    cover = _cover(hole, wishes.blur_pixels)

    def finish(drawn: Image.Image) -> Image.Image:
        return Image.composite(_sized(drawn, width, height), original, cover)

    start = fill_surroundings(original, soft) if wishes.fill_surroundings else original
    return InpaintWork(start, soft, width, height, finish)


def part_to_draw(hole: Image.Image, padding_pixels: int, width: int, height: int) -> Box | None:
    """Returns the part of a picture that holds all of a mask that isn't black.

    It has `padding_pixels` around, as far as the picture goes, and is grown towards the shape of
    `width` to `height`, within the picture. None when all is black.
    """
    found = hole.getbbox()
    if found is None:
        return None
    box = Box(
        max(0, found[0] - padding_pixels),
        max(0, found[1] - padding_pixels),
        min(hole.width, found[2] + padding_pixels),
        min(hole.height, found[3] + padding_pixels),
    )
    if box.width * height < box.height * width:
        wanted = round(box.height * width / height)
        left, right = _grown(box.left, box.right, wanted, hole.width)
        return box._replace(left=left, right=right)
    wanted = round(box.width * height / width)
    upper, lower = _grown(box.upper, box.lower, wanted, hole.height)
    return box._replace(upper=upper, lower=lower)


def _draw_part(
    original: Image.Image,
    mask: Image.Image,
    width: int,
    height: int,
    wishes: InpaintWishes,
    field: str,
) -> InpaintWork:
    hole = _hole(mask, *original.size, wishes, field)
    soft = ImageChops.lighter(hole, _blurred(hole, wishes.blur_pixels))
    part = part_to_draw(soft, wishes.padding_pixels, width, height)
    assert part is not None  # the hole isn't empty
    inner = inner_box((part.width, part.height), width, height)
    cover = _cover(hole, wishes.blur_pixels).crop(part)
    start = place(original.crop(part), width, height, inner)
    fitted = place(soft.crop(part), width, height, inner)

    def finish(drawn: Image.Image) -> Image.Image:
        drawn = _sized(drawn, width, height)
        new = drawn.resize((part.width, part.height), Image.Resampling.LANCZOS, box=inner)
        result = original.copy()
        result.paste(new, part, cover)
        return result

    start = fill_surroundings(start, fitted) if wishes.fill_surroundings else start
    return InpaintWork(start, fitted, *original.size, finish)


def _hole(
    mask: Image.Image, width: int, height: int, wishes: InpaintWishes, field: str
) -> Image.Image:
    """Returns the mask at a size, in white for what is drawn anew and black."""
    levels = [255 * (level >= _WHITE_FROM) for level in range(256)]
    hole = fit(mask.point(levels), width, height, wishes.resize_mode).point(levels)
    if wishes.invert:
        hole = ImageOps.invert(hole)
    if hole.getbbox() is None:
        colour = "black" if wishes.invert else "white"
        raise InvalidArgument(
            f"The mask has no {colour} part inside the picture, so nothing would be drawn anew. "
            f"Paint {colour} what is to change"
            + (", or leave invert_mask out." if wishes.invert else ", or set invert_mask."),
            field=field,
        )
    return hole


def _blurred(hole: Image.Image, pixels: int) -> Image.Image:
    return hole.filter(ImageFilter.GaussianBlur(pixels)) if pixels else hole


def _cover(hole: Image.Image, blur_pixels: int) -> Image.Image:
    """Returns how much of what is drawn covers the original.

    All that was asked for is shown in full; the soft edge lies around it.
    """
    doubled = [min(255, 2 * level) for level in range(256)]
    return ImageChops.lighter(hole, _blurred(hole, blur_pixels).point(doubled))


def _sized(drawn: Image.Image, width: int, height: int) -> Image.Image:
    return fit(drawn.convert("RGB"), width, height, ResizeMode.STRETCH)


def _grown(start: int, end: int, wanted: int, limit: int) -> tuple[int, int]:
    """Grows a span to both sides to a length, as far as there is room."""
    length = min(max(wanted, end - start), limit)
    start = min(max(0, start - (length - (end - start)) // 2), limit - length)
    return start, start + length
