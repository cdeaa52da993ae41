"""Files that are written: what they hold, how large they get, and that they are always the same."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from services.errors import InvalidArgument
from services.image.pictures.reading import read_picture
from services.image.pictures.writing import OutputFile, OutputFormat, on_white, write_picture
from tests.unit.image.pictures.picture_files import LIMITS, saved, scene


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean())


@pytest.mark.parametrize("file_format", OutputFormat)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_files_are_of_their_format_and_always_the_same(file_format: OutputFormat, mode: str):
    picture = scene(mode=mode)
    data, mime = write_picture(picture, OutputFile(file_format), "a cat")
    with Image.open(BytesIO(data)) as image:
        assert mime == file_format.value == image.get_format_mimetype()
        assert image.size == picture.size
    again = saved(picture, "PNG", dpi=(72, 72), compress_level=1)
    with Image.open(BytesIO(again)) as image:  # the same picture, with a past
        image.load()
        assert write_picture(image, OutputFile(file_format), "a cat") == (data, mime)


@pytest.mark.parametrize("file_format", [OutputFormat.PNG, OutputFormat.WEBP])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_nothing_is_lost_at_the_best_quality(file_format: OutputFormat, mode: str):
    picture = scene(mode=mode)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    data, _ = write_picture(picture, OutputFile(file_format, 100))
    with Image.open(BytesIO(data)) as image:
        assert image.convert(mode).tobytes() == picture.tobytes()


@pytest.mark.parametrize("file_format", [OutputFormat.JPEG, OutputFormat.WEBP])
def test_more_quality_is_nearer_and_larger(file_format: OutputFormat):
    picture = scene(96, 64)
    sizes, distances = [], []
    for quality in (0, 50, 85, 100):
        data, _ = write_picture(picture, OutputFile(file_format, quality))
        sizes.append(len(data))
        distances.append(distance(read_picture(data, "f", LIMITS).image, picture))
    assert distances == sorted(distances, reverse=True)
    assert len(set(distances)) == 4
    if file_format is OutputFormat.JPEG:  # a lossless WebP of such a picture is small
        assert sizes == sorted(sizes)


def test_a_png_has_no_quality():
    files = {write_picture(scene(), OutputFile(OutputFormat.PNG, q))[0] for q in (0, 50, 100)}
    assert len(files) == 1


def test_a_jpeg_shows_what_is_transparent_on_white():
    picture = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    data, _ = write_picture(picture, OutputFile(OutputFormat.JPEG))
    assert read_picture(data, "f", LIMITS).image.getpixel((8, 8)) == (255, 255, 255)
    assert on_white(Image.new("L", (1, 1), 7)).getpixel((0, 0)) == (7, 7, 7)


def test_the_picture_itself_stays_as_it_was():
    picture = scene()
    picture.info["parameters"] = "of old"
    data, _ = write_picture(picture, OutputFile())
    assert picture.info == {"parameters": "of old"}
    assert b"of old" not in data


def test_an_empty_infotext_is_left_out():
    for file_format in OutputFormat:
        data, _ = write_picture(scene(), OutputFile(file_format))
        assert not any(mark in data for mark in (b"parameters", b"Exif", b"EXIF"))


@pytest.mark.parametrize(
    ("file_format", "side"), [(OutputFormat.WEBP, 16384), (OutputFormat.JPEG, 65501)]
)
def test_a_picture_too_large_for_its_format_is_refused(file_format: OutputFormat, side: int):
    with pytest.raises(InvalidArgument, match=str(side - 1)) as refused:
        write_picture(Image.new("L", (1, side)), OutputFile(file_format, 10))
    assert refused.value.field == "output_format"
    data, _ = write_picture(Image.new("L", (1, side - 1)), OutputFile(file_format, 10))
    assert data
