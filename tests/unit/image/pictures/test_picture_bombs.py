"""Small files that want to be large: refused, or read in no more memory than their pixels take."""

import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest

from services.errors import InvalidArgument
from services.image.pictures.reading import read_picture, read_texts
from tests.unit.image.pictures.picture_files import (
    LIMITS,
    jpeg_segment,
    png,
    png_chunk,
    saved,
    scene,
    webp,
    webp_chunk,
    zeros,
)


def _header(width: int, height: int, depth: int = 1, colour: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def _huge_png() -> bytes:
    """30000 by 30000 pixels of one bit, in some hundred kilobytes."""
    return (
        png(8, 8, 1, 0, b"")
        .replace(png_chunk(b"IHDR", _header(8, 8)), png_chunk(b"IHDR", _header(30000, 30000)))
        .replace(png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IDAT", zeros(112 << 20)))
    )


_SOF = b"\x08" + (60000).to_bytes(2) * 2 + b"\x03\1\x11\0\2\x11\0\3\x11\0"

BOMBS = {
    "a huge PNG": (_huge_png, "30000x30000"),
    "a huge JPEG": (
        lambda: (
            b"\xff\xd8" + jpeg_segment(0xC0, _SOF) + jpeg_segment(0xDA, bytes(10)) + b"\xff\xd9"
        ),
        "60000x60000",
    ),
    "a huge WebP": (
        lambda: webp(webp_chunk(b"VP8L", b"\x2f" + b"\xff" * 9)),
        "16384x16384",
    ),
    "a WebP with a huge canvas": (
        lambda: webp(
            webp_chunk(b"VP8X", b"\2\0\0\0" + b"\xff" * 6), webp_chunk(b"ANMF", bytes(30))
        ),
        "16777216x16777216",
    ),
    "a JPEG of very many scans": (
        lambda: (
            saved(scene(), "JPEG", progressive=True)[:-2]
            + jpeg_segment(0xDA, b"\1\1\0\0\x3f\0") * 5000
            + b"\xff\xd9"
        ),
        "scans",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_anything_is_decoded(name: str):
    make, word = BOMBS[name]
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match=word):
            read_picture(data, "f", LIMITS)
        assert tracemalloc.get_traced_memory()[1] < (4 << 20) + 2 * len(data)
    finally:
        tracemalloc.stop()


def test_a_file_of_very_many_chunks_is_refused():
    plain = saved(scene(), "PNG")
    data = plain[:33] + png_chunk(b"abCd") * 300_000 + plain[33:]
    with pytest.raises(InvalidArgument, match="chunks"):
        read_picture(data, "f", LIMITS)


def test_packed_zeros_are_what_they_say():
    assert zlib.decompress(zeros(3 << 20)) == bytes(3 << 20)


_TEXT_BOMBS = {
    "zTXt": lambda: [(b"zTXt", b"parameters\0\0" + zeros(1 << 30))],
    "iTXt": lambda: [(b"iTXt", b"parameters\0\1\0\0\0" + zeros(1 << 28))],
    "iCCP": lambda: [(b"iCCP", b"profile\0\0" + zeros(1 << 28))],
    "many": lambda: [(b"zTXt", b"key\0\0" + zeros(1 << 20))] * 200,
    "plain": lambda: [(b"tEXt", b"parameters\0" + bytes(1 << 20))],
    "crowd": lambda: [(b"tEXt", b"key%d\0" % at) for at in range(2000)],
}


@pytest.mark.parametrize("name", _TEXT_BOMBS)
def test_packed_texts_and_profiles_are_never_unpacked_for_their_pixels(name: str):
    data = png(2, 1, 8, 0, b"\0\1\2", _TEXT_BOMBS[name]())
    tracemalloc.start()
    try:
        assert read_picture(data, "f", LIMITS).image.size == (2, 1)
        if name == "iCCP":
            assert read_texts(data, "f", LIMITS) == {}
        else:
            with pytest.raises(InvalidArgument, match="text"):
                read_texts(data, "f", LIMITS)
        assert tracemalloc.get_traced_memory()[1] < (4 << 20) + 3 * len(data)
    finally:
        tracemalloc.stop()


_MEASURE = """
import resource, sys
from tests.unit.image.pictures.picture_files import LIMITS, jpeg_segment, png, saved, scene, zeros
from tests.unit.image.pictures.picture_files import png_chunk
from services.errors import InvalidArgument
from services.image.pictures.reading import PictureLimits, read_picture

small = png(8, 8, 8, 0, bytes(72))
at = small.index(b"IDAT")
files = [
    small[: at - 4] + png_chunk(b"IDAT", zeros(1 << 30)) + png_chunk(b"IEND"),
    saved(scene(1024, 1024), "JPEG", progressive=True),
    saved(scene(1024, 1024), "WEBP"),
    saved(scene(1024, 1024), "PNG"),
]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in files * 3:
    try:
        read_picture(data, "f", LIMITS)
    except InvalidArgument:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_pixels_that_unpack_to_more_than_the_picture_take_no_more_memory():
    """A PNG of 64 pixels with a gigabyte in it; besides, what the largest pictures take."""
    asked = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert int(asked.stdout) < 80 << 10  # kilobytes
