"""Pictures fitted to other sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from services.image.pictures.fitting import ResizeMode, fit, inner_box
from tests.unit.image.pictures.picture_files import scene


def bands() -> Image.Image:
    """Red, green and blue, side by side, 30x10 each."""
    picture = Image.new("RGB", (90, 10), "lime")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 29, 9), fill="red")
    draw.rectangle((60, 0, 89, 9), fill="blue")
    return picture


def colour(picture: Image.Image, x: int, y: int) -> str:
    """The colour of a pixel, but for what scaling leaves of its neighbours."""
    channels = np.asarray(picture)[y, x]
    (found,) = [
        name for name, level in zip(("red", "green", "blue"), channels, strict=True) if level > 240
    ]
    return found


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(ResizeMode),
    colours=st.sampled_from(["RGB", "L"]),
    old=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    new=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_pictures_of_any_size_fit_any_size(
    mode: ResizeMode, colours: str, old: tuple[int, int], new: tuple[int, int]
):
    fitted = fit(Image.new(colours, old, "white"), *new, mode)
    assert fitted.size == new
    assert fitted.mode == colours
    assert fitted.getextrema() == Image.new(colours, (1, 1), "white").getextrema()


@pytest.mark.parametrize("mode", ResizeMode)
def test_a_picture_that_fits_stays_as_it_is(mode: ResizeMode):
    assert fit(scene(), 40, 24, mode).tobytes() == scene().tobytes()


def test_stretching_scales_each_side_by_itself():
    fitted = fit(bands(), 45, 40, ResizeMode.STRETCH)
    assert [colour(fitted, x, 20) for x in (5, 22, 40)] == ["red", "green", "blue"]


@pytest.mark.parametrize(("width", "height"), [(60, 20), (30, 10), (15, 5)])
def test_cropping_keeps_the_middle(width: int, height: int):
    fitted = fit(bands(), width, height, ResizeMode.CROP)
    seen = [colour(fitted, x, height // 2) for x in (width // 6, width // 2, width * 5 // 6)]
    assert seen == ["green"] * 3  # a third of the width is left: the middle one


def test_cropping_of_high_pictures_keeps_the_middle_too():
    fitted = fit(bands().transpose(Image.Transpose.ROTATE_270), 20, 20, ResizeMode.CROP)
    assert {colour(fitted, 10, y) for y in (3, 10, 16)} == {"green"}


def test_filling_goes_on_with_the_colours_of_the_edges():
    fitted = fit(bands().resize((90, 30), Image.Resampling.NEAREST), 90, 90, ResizeMode.FILL)
    for y in (0, 15, 45, 75, 89):
        assert [colour(fitted, x, y) for x in (10, 45, 80)] == ["red", "green", "blue"]
    wide = fit(bands(), 200, 10, ResizeMode.FILL)
    assert [colour(wide, x, 5) for x in (0, 54, 60, 100, 140, 199)] == [
        "red",
        "red",
        "red",
        "green",
        "blue",
        "blue",
    ]
    inside = np.asarray(wide)[:, 55:145]
    assert inside.tobytes() == bands().tobytes()


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
)
def test_the_inner_box_lies_in_the_middle_and_touches_two_sides(
    size: tuple[int, int], width: int, height: int
):
    box = inner_box(size, width, height)
    assert box.width == width or box.height == height
    assert 0 <= box.left < box.right <= width
    assert 0 <= box.upper < box.lower <= height
    assert abs(box.left - (width - box.right)) <= 1
    assert abs(box.upper - (height - box.lower)) <= 1
