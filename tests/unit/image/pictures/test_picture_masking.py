"""Inpainting: what is drawn, what is kept, and how it comes together again."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from services.errors import InvalidArgument
from services.image.pictures.fitting import Box, ResizeMode, fit
from services.image.pictures.masking import InpaintWishes, part_to_draw, prepare_inpainting
from services.image.pictures.surroundings import fill_surroundings
from tests.unit.image.pictures.picture_files import scene

PINK = (255, 0, 255)
"""A colour that no picture here has, but what is drawn."""


def hole(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A mask that is white in a box; right and lower are the first black ones."""
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


def pink(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PINK)


def is_pink(picture: Image.Image) -> np.ndarray:
    return (np.asarray(picture) == PINK).all(axis=2)


PART = (20, 16, 50, 40)


@pytest.mark.parametrize("full_resolution", [True, False])
def test_without_blur_just_the_white_part_is_drawn(full_resolution: bool):
    picture, mask = scene(96, 64), hole((96, 64), PART)
    wishes = InpaintWishes(blur_pixels=0, full_resolution=full_resolution)
    work = prepare_inpainting(picture, mask, 96, 64, wishes)
    assert work.initial.size == work.mask.size == (96, 64)
    assert (work.initial.mode, work.mask.mode) == ("RGB", "L")
    done = work.finish(pink(96, 64))
    assert done.size == (work.width, work.height) == (96, 64)
    expected = picture.copy()
    expected.paste(PINK, PART)
    assert done.tobytes() == expected.tobytes()


@pytest.mark.parametrize("full_resolution", [True, False])
def test_inverted_the_black_part_is_drawn(full_resolution: bool):
    picture, mask = scene(96, 64), hole((96, 64), PART)
    wishes = InpaintWishes(invert=True, blur_pixels=0, full_resolution=full_resolution)
    done = prepare_inpainting(picture, mask, 96, 64, wishes).finish(pink(96, 64))
    expected = pink(96, 64)
    expected.paste(picture.crop(PART), PART)
    assert done.tobytes() == expected.tobytes()


@pytest.mark.parametrize("full_resolution", [True, False])
def test_blur_softens_outside_and_keeps_what_is_far(full_resolution: bool):
    picture, mask = scene(160, 160), hole((160, 160), (60, 60, 100, 100))
    wishes = InpaintWishes(blur_pixels=4, full_resolution=full_resolution)
    work = prepare_inpainting(picture, mask, 160, 160, wishes)
    before, after = np.asarray(picture), np.asarray(work.finish(pink(160, 160)))
    assert is_pink(Image.fromarray(after[60:100, 60:100])).all()
    near = np.zeros((160, 160), bool)
    near[44:116, 44:116] = True
    assert (after[~near] == before[~near]).all()
    # From the edge outwards the drawing fades.
    row = after[80, 100:116, 1].astype(int) - before[80, 100:116, 1]
    assert row[0] < -20
    assert abs(row[-1]) <= 1
    levels = np.asarray(work.mask)
    assert levels.max() == 255
    assert ((levels > 0) & (levels < 255)).any()


def test_a_grey_or_noisy_mask_counts_as_black_or_white():
    picture, mask = scene(96, 64), hole((96, 64), PART).point([3] * 128 + [200] * 128)
    done = prepare_inpainting(picture, mask, 96, 64, InpaintWishes(blur_pixels=0)).finish(
        pink(96, 64)
    )
    assert is_pink(done).sum() == 30 * 24


def test_full_resolution_draws_the_part_large_and_puts_it_back_small():
    picture, mask = scene(400, 300), hole((400, 300), (100, 100, 140, 140))
    wishes = InpaintWishes(blur_pixels=0, padding_pixels=10)
    work = prepare_inpainting(picture, mask, 120, 120, wishes)
    part = (90, 90, 150, 150)
    expected = picture.crop(part).resize((120, 120), Image.Resampling.LANCZOS)
    assert work.initial.tobytes() == expected.tobytes()
    assert work.mask.getbbox() is not None
    assert abs(np.asarray(work.mask).mean() - 255 * (80 / 120) ** 2) < 6
    drawn = pink(120, 120)
    ImageDraw.Draw(drawn).rectangle((60, 0, 119, 119), fill="blue")
    done = work.finish(drawn)
    assert done.size == (400, 300)
    assert done.getpixel((105, 120)) == PINK
    assert done.getpixel((135, 120)) == (0, 0, 255)
    outside = np.asarray(hole((400, 300), (100, 100, 140, 140))) == 0
    assert (np.asarray(done)[outside] == np.asarray(picture)[outside]).all()


@pytest.mark.parametrize("fill", [False, True])
def test_drawing_what_was_there_changes_next_to_nothing(fill: bool):
    """What goes out as the initial picture comes back to where it was."""
    picture = Image.effect_noise((25, 15), 60).resize((200, 120), Image.Resampling.BICUBIC)
    picture = picture.convert("RGB")
    mask = hole((200, 120), (5, 30, 60, 100))
    wishes = InpaintWishes(padding_pixels=7, fill_surroundings=fill)
    work = prepare_inpainting(picture, mask, 256, 192, wishes)
    difference = np.abs(
        np.asarray(work.finish(work.initial)).astype(int) - np.asarray(picture).astype(int)
    )
    if fill:
        assert difference.max() > 8
    else:
        assert difference.max() <= 3


@pytest.mark.parametrize("mode", ResizeMode)
def test_without_full_resolution_picture_and_mask_are_fitted_alike(mode: ResizeMode):
    picture = Image.new("RGB", (200, 100), "white")
    box = (80, 30, 130, 80)
    picture.paste((0, 0, 0), box)
    wishes = InpaintWishes(blur_pixels=0, full_resolution=False, resize_mode=mode)
    work = prepare_inpainting(picture, hole((200, 100), box), 96, 96, wishes)
    assert work.initial.tobytes() == fit(picture, 96, 96, mode).tobytes()
    black = np.asarray(work.initial.convert("L")) < 100
    white = np.asarray(work.mask) > 0
    assert (black != white).mean() < 0.03
    assert work.finish(pink(96, 96)).size == (work.width, work.height) == (96, 96)


def test_a_mask_of_another_size_is_fitted_to_the_picture():
    picture, mask = scene(200, 100), hole((100, 50), (20, 10, 40, 30))
    done = prepare_inpainting(picture, mask, 64, 64, InpaintWishes(blur_pixels=0)).finish(
        pink(64, 64)
    )
    where = np.argwhere(is_pink(done))
    assert np.abs(where.min(0) - [20, 40]).max() <= 1
    assert np.abs(where.max(0) - [59, 79]).max() <= 1


def test_previews_of_another_size_are_put_in_too():
    picture, mask = scene(96, 64), hole((96, 64), PART)
    for full_resolution in (True, False):
        wishes = InpaintWishes(blur_pixels=0, full_resolution=full_resolution)
        work = prepare_inpainting(picture, mask, 96, 64, wishes)
        assert work.finish(pink(12, 8)).tobytes() == work.finish(pink(96, 64)).tobytes()


@pytest.mark.parametrize("full_resolution", [True, False])
@pytest.mark.parametrize(
    ("colour", "invert", "words"), [(0, False, "no white part"), (255, True, "no black part")]
)
def test_a_mask_with_nothing_to_draw_is_refused(
    full_resolution: bool, colour: int, invert: bool, words: str
):
    wishes = InpaintWishes(invert=invert, full_resolution=full_resolution)
    with pytest.raises(InvalidArgument, match=words) as refused:
        prepare_inpainting(scene(), Image.new("L", (40, 24), colour), 64, 64, wishes)
    assert refused.value.field == "inpainting.mask"


def test_a_mask_that_is_cropped_off_is_refused():
    wishes = InpaintWishes(full_resolution=False, resize_mode=ResizeMode.CROP)
    with pytest.raises(InvalidArgument, match="inside the picture"):
        prepare_inpainting(scene(200, 50), hole((200, 50), (0, 0, 20, 50)), 50, 50, wishes, "mask")


@pytest.mark.parametrize("full_resolution", [True, False])
def test_a_white_mask_draws_everything(full_resolution: bool):
    wishes = InpaintWishes(full_resolution=full_resolution, fill_surroundings=True)
    work = prepare_inpainting(scene(), Image.new("L", (40, 24), 255), 40, 24, wishes)
    assert is_pink(work.finish(pink(40, 24))).all()
    assert set(np.asarray(work.initial).ravel()) <= {127, 128}


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    corner=st.tuples(st.integers(0, 119), st.integers(0, 119)),
    extent=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    padding=st.integers(0, 60),
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_the_part_to_draw_holds_the_mask_in_the_shape_of_the_target(
    size: tuple[int, int],
    corner: tuple[int, int],
    extent: tuple[int, int],
    padding: int,
    target: tuple[int, int],
):
    assume(corner[0] < size[0] and corner[1] < size[1])
    box = (
        corner[0],
        corner[1],
        min(size[0], corner[0] + extent[0]),
        min(size[1], corner[1] + extent[1]),
    )
    part = part_to_draw(hole(size, box), padding, *target)
    assert part is not None
    assert 0 <= part.left <= max(0, box[0] - padding)
    assert 0 <= part.upper <= max(0, box[1] - padding)
    assert size[0] >= part.right >= min(size[0], box[2] + padding)
    assert size[1] >= part.lower >= min(size[1], box[3] + padding)
    ratio = target[0] / target[1]
    fits = abs(part.width - part.height * ratio) <= 1 or abs(part.height - part.width / ratio) <= 1
    # Else the picture ends before the shape is reached.
    assert fits or part.width == size[0] or part.height == size[1]


def test_no_part_is_drawn_of_a_black_mask():
    assert part_to_draw(Image.new("L", (9, 9)), 4, 8, 8) is None
    assert part_to_draw(hole((9, 9), (0, 0, 9, 9)), 4, 8, 8) == Box(0, 0, 9, 9)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    corner=st.tuples(st.integers(0, 119), st.integers(0, 119)),
    extent=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    target=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    wishes=st.builds(
        InpaintWishes,
        invert=st.booleans(),
        blur_pixels=st.integers(0, 20),
        fill_surroundings=st.booleans(),
        full_resolution=st.booleans(),
        padding_pixels=st.integers(0, 40),
        resize_mode=st.sampled_from(ResizeMode),
    ),
)
def test_any_mask_of_any_picture_works_or_is_refused(
    size: tuple[int, int],
    corner: tuple[int, int],
    extent: tuple[int, int],
    target: tuple[int, int],
    wishes: InpaintWishes,
):
    assume(corner[0] < size[0] and corner[1] < size[1])
    width, height = target[0] * 8, target[1] * 8
    box = (*corner, min(size[0], corner[0] + extent[0]), min(size[1], corner[1] + extent[1]))
    picture = scene(*size)
    try:
        work = prepare_inpainting(picture, hole(size, box), width, height, wishes)
    except InvalidArgument:
        whole = box == (0, 0, *size)
        assert (wishes.invert and whole) or not wishes.full_resolution
        return
    assert work.initial.size == work.mask.size == (width, height)
    assert work.mask.getbbox() is not None or wishes.full_resolution
    done = work.finish(pink(width, height))
    assert done.size == (work.width, work.height)
    if wishes.full_resolution:
        drawn = np.asarray(hole(size, box)) > 0
        drawn = ~drawn if wishes.invert else drawn
        assert is_pink(done)[drawn].all()
        if wishes.blur_pixels == 0:
            assert (np.asarray(done)[~drawn] == np.asarray(picture)[~drawn]).all()


def test_surroundings_go_into_the_hole_and_nothing_else_changes():
    picture = Image.new("RGB", (64, 64), "red")
    picture.paste((0, 0, 255), (32, 0, 64, 64))
    picture.paste((0, 255, 0), (16, 16, 48, 48))
    mask = hole((64, 64), (16, 16, 48, 48))
    filled = np.asarray(fill_surroundings(picture, mask)).astype(int)
    outside = np.asarray(mask) == 0
    assert (filled[outside] == np.asarray(picture)[outside]).all()
    inside = filled[16:48, 16:48]
    assert inside[..., 1].max() == 0  # nothing of what is drawn anew
    assert (inside[:, 0, 0] > 180).all()
    assert (inside[:, -1, 2] > 180).all()
    steps = np.diff(inside[16, :, 2])
    assert steps.min() >= -12  # from red to blue, softly
    assert np.abs(steps).max() < 64


def test_a_half_shown_pixel_keeps_half_of_its_colour():
    picture = Image.new("RGB", (16, 16), "black")
    picture.putpixel((8, 8), (200, 200, 200))
    mask = Image.new("L", (16, 16))
    mask.putpixel((8, 8), 128)
    value = fill_surroundings(picture, mask).getpixel((8, 8))
    assert 90 <= value[0] <= 130
