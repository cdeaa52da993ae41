"""Small files that want to be large: refused, or read in no more memory than their pixels take."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from services.errors import InvalidArgument
from services.image.pictures.reading import read_picture
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


def growth(code: str, *arguments: str) -> tuple[int, str]:
    """Runs code in a process of its own; returns by how many bytes its memory grew at most (the
    decoders' own, too), and what it printed. It calls `begin()` once all is imported and loaded."""
    asked = subprocess.run(
        [sys.executable, "-c", _PEAK + code + "\nprint(peak() - before)", *arguments],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    *said, grown = asked.stdout.splitlines()
    return int(grown), "\n".join(said)


_PEAK = """
import sys
from pathlib import Path
from tests.unit.image.pictures.picture_files import (
    LIMITS, jpeg_segment, png, png_chunk, saved, scene, zeros
)
from services.errors import InvalidArgument
from services.image.pictures.reading import read_picture, read_texts

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))

def begin():
    global before
    for kind in ("PNG", "JPEG", "WEBP"):  # what decoders take once, they have then
        read_picture(saved(scene(), kind), "f", LIMITS)
    before = peak()

def tried(read, data):
    try:
        print(read(data, "f", LIMITS))
    except InvalidArgument as error:
        print(error.message)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_anything_is_decoded(name: str, tmp_path: Path):
    make, word = BOMBS[name]
    file = tmp_path / "bomb"
    file.write_bytes(make())
    grown, said = growth(
        "data = Path(sys.argv[1]).read_bytes()\nbegin()\ntried(read_picture, data)", str(file)
    )
    assert word in said
    assert grown < (8 << 20) + 2 * file.stat().st_size


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
def test_packed_texts_and_profiles_are_never_unpacked_for_their_pixels(name: str, tmp_path: Path):
    file = tmp_path / "bomb"
    file.write_bytes(png(2, 1, 8, 0, b"\0\1\2", _TEXT_BOMBS[name]()))
    grown, said = growth(
        """
data = Path(sys.argv[1]).read_bytes()
begin()
print(read_picture(data, "f", LIMITS).image.size)
tried(read_texts, data)
""",
        str(file),
    )
    size, texts = said.splitlines()
    assert size == "(2, 1)"
    assert (texts == "{}") if name == "iCCP" else ("text" in texts)
    assert grown < (8 << 20) + 3 * file.stat().st_size


_MEASURE = """
small = png(8, 8, 8, 0, bytes(72))
at = small.index(b"IDAT")
files = [
    small[: at - 4] + png_chunk(b"IDAT", zeros(1 << 30)) + png_chunk(b"IEND"),
    saved(scene(1024, 1024), "JPEG", progressive=True),
    saved(scene(1024, 1024), "WEBP"),
    saved(scene(1024, 1024), "PNG"),
]
begin()
for data in files * 3:
    tried(read_picture, data)
"""


def test_pixels_that_unpack_to_more_than_the_picture_take_no_more_memory():
    """A PNG of 64 pixels with a gigabyte in it; besides, what the largest pictures take."""
    grown, said = growth(_MEASURE)
    assert said.count("size=8x8") == 3
    assert grown < 40 << 20
