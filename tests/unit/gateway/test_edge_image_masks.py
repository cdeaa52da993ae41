"""Masks of edits: transparent becomes white, whatever the file; broken ones are refused."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.dialects.openai import image_masks
from gateway.dialects.openai.image_masks import Masks, Picture
from gateway.errors import ProblemError

MASKS = Masks()
SIZE = (6, 4)


def saved(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def holed(hole: tuple[int, int, int, int] = (0, 0, 2, 3)) -> Image.Image:
    image = Image.new("RGBA", SIZE, (200, 30, 10, 255))
    image.paste((9, 9, 9, 0), hole)
    return image


def palette() -> bytes:
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(0, (0, 0, 2, 3))
    return saved(image, transparency=0)


OPAQUE = saved(Image.new("RGB", SIZE, "red"))
HOLED = saved(holed())


async def mask_of(image: bytes, mask: bytes | None = None) -> Image.Image | None:
    made = await MASKS.mask_of(
        Picture(image, "image"), None if mask is None else Picture(mask, "mask")
    )
    if made is None:
        return None
    opened = Image.open(io.BytesIO(made))
    assert opened.mode == "L"
    assert {value for _, value in opened.getcolors() or ()} <= {0, 255}
    return opened


def white(mask: Image.Image | None) -> tuple[int, int, int, int] | None:
    assert mask is not None
    return mask.getbbox()


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(HOLED, id="rgba"),
        pytest.param(saved(holed().convert("LA")), id="grey"),
        pytest.param(palette(), id="palette"),
        pytest.param(saved(holed(), "WEBP", lossless=True, exact=True), id="webp lossless"),
        pytest.param(saved(holed(), "WEBP", quality=90), id="webp lossy"),
        pytest.param(saved(holed(), exif=Image.Exif()), id="empty exif"),
    ],
)
async def test_transparent_is_white(mask: bytes) -> None:
    for image in (OPAQUE, mask, saved(Image.new("RGB", SIZE), "JPEG")):
        made = await mask_of(image, mask)
        assert made is not None
        assert made.size == SIZE
        assert white(made) == (0, 0, 2, 3)


async def test_half_transparent_is_kept() -> None:
    image = holed()
    image.paste((0, 0, 0, 1), (3, 0, 6, 4))
    assert white(await mask_of(OPAQUE, saved(image))) == (0, 0, 2, 3)


async def test_the_picture_s_own_hole_is_a_mask() -> None:
    assert white(await mask_of(HOLED)) == (0, 0, 2, 3)
    assert white(await mask_of(saved(holed(), "WEBP", lossless=True))) == (0, 0, 2, 3)
    assert white(await mask_of(palette())) == (0, 0, 2, 3)


@pytest.mark.parametrize(
    "image",
    [
        OPAQUE,
        saved(Image.new("RGBA", SIZE, (1, 2, 3, 255))),
        saved(Image.new("RGB", SIZE), "JPEG"),
        saved(Image.new("RGB", SIZE), "WEBP"),
        b"not an image",
        b"RIFF1234WEBPVP8X",
        b"",
    ],
)
async def test_a_picture_without_a_hole_is_drawn_all_anew(image: bytes) -> None:
    assert await mask_of(image) is None


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_a_turned_file_is_seen_as_it_is_shown(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = Image.new("RGBA", (6, 4), (0, 0, 0, 255))
    shown.paste((0, 0, 0, 0), (0, 0, 1, 3))
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = shown if back is None else shown.transpose(back)
    file = saved(stored, exif=exif)
    made = await mask_of(file)
    assert made is not None
    assert made.size == (6, 4)
    assert white(made) == (0, 0, 1, 3)
    turned = saved(stored.convert("RGB"), "JPEG", exif=exif)
    assert white(await mask_of(turned, saved(shown))) == (0, 0, 1, 3)


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp(kind: bytes, body: bytes) -> bytes:
    data = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(data)) + data


LARGE_WEBP = webp(b"VP8X", b"\x10\0\0\0" + b"\xfe\x3f\0" * 2)
LARGE_LOSSLESS = webp(
    b"VP8L", b"\x2f" + struct.pack("<I", 16382 | 16382 << 14 | 1 << 28) + b"\0" * 9
)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        pytest.param(OPAQUE, "transparent", id="no alpha"),
        pytest.param(saved(Image.new("RGBA", SIZE, (0, 0, 0, 255))), "transparent", id="opaque"),
        pytest.param(saved(Image.new("L", SIZE), "JPEG"), "transparent", id="jpeg"),
        pytest.param(saved(Image.new("P", SIZE), "GIF"), "transparent", id="gif"),
        pytest.param(b"x", "transparent", id="no image"),
        pytest.param(saved(holed().resize((12, 8))), "equally large", id="another size"),
        pytest.param(HOLED[:-30], "read", id="cut"),
        pytest.param(HOLED[:40], "read", id="head only"),
        pytest.param(bomb(8, 8), "read", id="no pixels"),
        pytest.param(bomb(50_000, 50_000), "larger", id="png bomb"),
        pytest.param(LARGE_WEBP, "larger", id="webp bomb"),
        pytest.param(LARGE_LOSSLESS, "larger", id="lossless webp bomb"),
        pytest.param(
            saved(holed(), "PNG", save_all=True, append_images=[holed((3, 0, 6, 4))]),
            "moves",
            id="moving png",
        ),
        pytest.param(
            saved(holed(), "WEBP", save_all=True, append_images=[holed((3, 0, 6, 4))]),
            "moves",
            id="moving webp",
        ),
    ],
)
async def test_refused_masks(mask: bytes, words: str) -> None:
    with pytest.raises(ProblemError) as raised:
        await mask_of(OPAQUE, mask)
    problem = raised.value.problem
    assert (problem.status, problem.param) == (400, "mask")
    assert words in problem.message


@pytest.mark.parametrize("image", [bomb(50_000, 50_000), LARGE_WEBP])
async def test_a_picture_too_large_to_look_at(image: bytes) -> None:
    with pytest.raises(ProblemError) as raised:
        await mask_of(image)
    assert raised.value.problem.param == "image"
    assert str(image_masks._MOST_PIXELS) in raised.value.problem.message


@pytest.mark.parametrize("image", [b"x", LARGE_WEBP, OPAQUE[:20], bomb(50_000, 50_000)])
async def test_what_is_wrong_with_the_picture_the_service_says(image: bytes) -> None:
    assert white(await mask_of(image, HOLED)) == (0, 0, 2, 3)


@given(
    file=st.sampled_from([HOLED, palette(), saved(holed(), "WEBP"), LARGE_WEBP]),
    at=st.integers(0, 120),
    put=st.binary(max_size=12),
    drop=st.integers(0, 12),
)
@settings(deadline=None)
async def test_damaged_files_are_masks_or_problems(
    file: bytes, at: int, put: bytes, drop: int
) -> None:
    at = min(at, len(file))
    damaged = file[:at] + put + file[at + drop :]
    for image, mask in ((OPAQUE, damaged), (damaged, None), (damaged, HOLED)):
        problem: ProblemError | None = None
        try:
            await mask_of(image, mask)
        except ProblemError as error:
            problem = error
        assert problem is None or problem.problem.status == 400
