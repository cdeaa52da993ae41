"""What files decode to: modes, transparency, turns, first frames, limits."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from services.errors import InvalidArgument
from services.image.pictures.reading import PictureLimits, read_picture
from tests.unit.image.pictures.picture_files import (
    LIMITS,
    exif,
    jpeg_segment,
    png,
    png_chunk,
    saved,
    scene,
    webp,
    webp_chunk,
)


def same(image: Image.Image, expected: Image.Image, tolerance: int = 0) -> bool:
    if image.size != expected.size or image.mode != expected.mode:
        return False
    difference = np.asarray(image).astype(int) - np.asarray(expected).astype(int)
    return int(np.abs(difference).max()) <= tolerance


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("L", "PNG", 0),
        ("1", "PNG", 0),
        ("P", "PNG", 0),
        ("RGB", "WEBP", 0),
        ("L", "WEBP", 0),
        ("RGB", "JPEG", 12),
        ("L", "JPEG", 12),
        ("CMYK", "JPEG", 12),
    ],
)
def test_every_mode_comes_out_as_rgb(mode: str, kind: str, tolerance: int):
    picture = scene(mode=mode)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    read = read_picture(saved(picture, kind, **options.get(kind, {})), "f", LIMITS)
    assert same(read.image, picture.convert("RGB"), tolerance)
    assert read.alpha is None
    assert (read.width, read.height) == picture.size


def test_greys_of_sixteen_bits_keep_their_brightness():
    values = [0, 0x0100, 0x8000, 0xFFFF]
    data = png(4, 1, 16, 0, b"\0" + struct.pack(">4H", *values))
    image = read_picture(data, "f", LIMITS).image
    assert [image.getpixel((x, 0)) for x in range(4)] == [(v >> 8,) * 3 for v in values]


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA")])
def test_what_is_transparent_lies_on_white(kind: str, mode: str):
    picture = scene(mode=mode)
    alpha = Image.linear_gradient("L").resize(picture.size)
    alpha.putpixel((0, 0), 0)
    picture.putalpha(alpha)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    read = read_picture(saved(picture, kind, **options), "f", LIMITS)
    assert read.alpha is not None
    assert same(read.alpha, alpha)
    white = Image.new("RGBA", picture.size, "white")
    assert same(read.image, Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"), 1)
    assert read.image.getpixel((0, 0)) == (255, 255, 255)
    assert read.as_mask() is read.alpha


def test_opaque_alpha_is_none_and_the_brightness_is_the_mask():
    read = read_picture(saved(scene(mode="RGBA"), "PNG"), "f", LIMITS)
    assert read.alpha is None
    assert same(read.as_mask(), scene().convert("L"))


@pytest.mark.parametrize(
    ("depth", "colour", "rows", "key", "reds", "alphas"),
    [
        (1, 0, b"\x50", b"\0\1", [0, 255, 0, 255], [255, 0, 255, 0]),
        (2, 0, b"\x1b", b"\0\2", [0, 85, 255, 255], [255, 255, 0, 255]),
        (4, 0, b"\x0f\xa5", b"\0\x0a", [0, 255, 255, 85], [255, 255, 0, 255]),
        (8, 0, b"\1\2\3\4", b"\0\3", [1, 2, 255, 4], [255, 255, 0, 255]),
        (8, 0, b"\1\2\3\4", b"\7\3", [1, 2, 255, 4], [255, 255, 0, 255]),
        (16, 0, b"\1\0\2\0\2\1\3\0", b"\2\0", [1, 255, 2, 3], [255, 0, 255, 255]),
        (8, 2, bytes(range(12)), b"\0\3\0\4\0\5", [0, 255, 6, 9], [255, 0, 255, 255]),
        (16, 2, bytes(range(24)), bytes(range(6, 12)), [0, 255, 12, 18], [255, 0, 255, 255]),
    ],
)
def test_one_colour_can_be_the_transparent_one(
    depth: int, colour: int, rows: bytes, key: bytes, reds: list[int], alphas: list[int]
):
    file = png(4, 1, depth, colour, b"\0" + rows, [(b"tRNS", key)])
    read = read_picture(file, "f", LIMITS)
    assert read.alpha is not None
    assert [read.image.getpixel((x, 0))[0] for x in range(4)] == reds
    assert [read.alpha.getpixel((x, 0)) for x in range(4)] == alphas


def test_a_palette_may_be_transparent_in_parts():
    palette = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])
    data = png(3, 1, 8, 3, b"\0\0\1\2", [(b"PLTE", palette), (b"tRNS", b"\xff\x80\x00")])
    read = read_picture(data, "f", LIMITS)
    assert read.alpha is not None
    assert [read.alpha.getpixel((x, 0)) for x in range(3)] == [255, 128, 0]
    assert read.image.getpixel((0, 0)) == (255, 0, 0)
    assert read.image.getpixel((2, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_their_exif_data_says(kind: str, orientation: int):
    data = Image.Exif()
    data[0x0112] = orientation
    file = saved(scene(), kind, exif=data.tobytes())
    with Image.open(BytesIO(file)) as reference:
        expected = ImageOps.exif_transpose(reference).convert("RGB")
    assert same(read_picture(file, "f", LIMITS).image, expected)


def test_transparency_is_turned_along():
    picture = scene(mode="RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.putpixel((0, 0), 0)
    picture.putalpha(alpha)
    data = Image.Exif()
    data[0x0112] = 6
    read = read_picture(saved(picture, "PNG", exif=data), "f", LIMITS)
    assert read.alpha is not None
    assert read.alpha.size == (24, 40)
    assert read.alpha.getpixel((23, 0)) == 0


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"II",
        b"MM\0*\xff\xff\xff\xff",
        exif([(0x0112, 3, 1, b"\x09\0\0\0")]),
        exif([(0x0112, 3, 1, b"\0\0\0\0")]),
        exif([(0x0112, 4, 1, b"\x06\0\0\0")]),
        exif([(0x0112, 3, 9, b"\x06\0\0\0")]),
        exif([(0x8769, 4, 1, b"\xff\xff\xff\x7f")]),
        exif([(0x8769, 4, 1, b"\x08\0\0\0")]),  # a directory within itself
        b"II*\0\x08\0\0\0\xff\xff" + b"\x12\1\3\0\1\0\0\0" * 9,
        b"garbage that is no TIFF",
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_broken_exif_data_turns_nothing(kind: str, broken: bytes):
    plain = saved(scene(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    if kind == "PNG":
        file = plain[:33] + png_chunk(b"eXIf", broken) + plain[33:]
    elif kind == "JPEG":
        file = plain[:2] + jpeg_segment(0xE1, b"Exif\0\0" + broken) + plain[2:]
    else:
        head = webp_chunk(
            b"VP8X", b"\x08\0\0\0" + (39).to_bytes(3, "little") + (23).to_bytes(3, "little")
        )
        file = webp(head, plain[12:], webp_chunk(b"EXIF", broken))
    read = read_picture(file, "f", LIMITS)
    assert same(read.image, read_picture(plain, "f", LIMITS).image)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_read(kind: str):
    frames = [scene(), Image.new("RGB", (40, 24), "red"), Image.new("RGB", (40, 24), "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    assert same(read_picture(file, "f", LIMITS).image, scene())


def test_of_several_pictures_in_one_jpeg_the_first_is_read():
    others = [Image.new("RGB", (40, 24), "red")]
    file = saved(scene(), "MPO", save_all=True, append_images=others, quality=95)
    assert same(read_picture(file, "f", LIMITS).image, scene(), 60)


@pytest.mark.parametrize(
    ("colour", "row", "pixel", "alpha"),
    [
        (2, b"\x10\xff\x20\xff\x30\xff", (16, 32, 48), None),
        (6, b"\x10\xff\x20\xff\x30\xff\xff\xff", (16, 32, 48), None),
        (6, b"\x10\xff\x20\xff\x30\xff\0\0", (255, 255, 255), 0),
        (4, b"\x10\xff\xff\xff", (16, 16, 16), None),
        (4, b"\x10\xff\0\0", (255, 255, 255), 0),
    ],
)
def test_colours_of_sixteen_bits_keep_their_brightness(
    colour: int, row: bytes, pixel: tuple[int, int, int], alpha: int | None
):
    read = read_picture(png(1, 1, 16, colour, b"\0" + row), "f", LIMITS)
    assert read.image.getpixel((0, 0)) == pixel
    assert (None if read.alpha is None else read.alpha.getpixel((0, 0))) == alpha


def test_colour_profiles_change_no_pixel():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    file = saved(scene(), "PNG", icc_profile=profile)
    assert b"iCCP" in file
    assert same(read_picture(file, "f", LIMITS).image, scene())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (PictureLimits(max_pixels=959, max_side=4096), ["40x24", "960", "959", "max_input_pixels"]),
        (PictureLimits(max_pixels=1 << 20, max_side=39), ["40x24", "39"]),
    ],
)
def test_a_picture_above_a_limit_is_refused_by_name(
    kind: str, limits: PictureLimits, words: list[str]
):
    with pytest.raises(InvalidArgument) as refused:
        read_picture(saved(scene(), kind), "init_images[3]", limits)
    assert refused.value.field == "init_images[3]"
    assert all(word in refused.value.message for word in words)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_at_the_limits_is_read(kind: str):
    limits = PictureLimits(max_pixels=960, max_side=40)
    assert read_picture(saved(scene(), kind), "f", limits).image.size == (40, 24)


def test_a_progressive_jpeg_and_an_interlaced_png_are_read():
    assert read_picture(saved(scene(), "JPEG", progressive=True), "f", LIMITS).width == 40
    adam7 = bytearray(png(1, 1, 8, 0, b"\0\x7f"))
    adam7[28] = 1
    adam7[29:33] = zlib.crc32(adam7[12:29]).to_bytes(4)
    assert read_picture(bytes(adam7), "f", LIMITS).image.getpixel((0, 0)) == (127, 127, 127)


def test_a_png_of_many_pixel_chunks_is_read():
    whole = saved(scene(), "PNG")
    at = whole.index(b"IDAT")
    length = int.from_bytes(whole[at - 4 : at])
    body = whole[at + 4 : at + 4 + length]
    pieces = b"".join(png_chunk(b"IDAT", body[i : i + 3]) for i in range(0, length, 3))
    split = whole[: at - 4] + png_chunk(b"IDAT") + pieces + whole[at + 8 + length :]
    assert same(read_picture(split, "f", LIMITS).image, scene())
