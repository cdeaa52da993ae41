"""Files that mean harm: every one is decoded or refused by name, and takes no more than it may."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.image.pictures.reading import PictureLimits, read_picture, read_texts
from tests.unit.image.pictures.picture_files import (
    LIMITS,
    exif,
    jpeg_segment,
    mended,
    png,
    saved,
    scene,
    webp,
    webp_chunk,
)


def _real_files() -> list[bytes]:
    still, ghost = scene(), scene(mode="RGBA")
    ghost.putalpha(still.convert("L"))
    frames = {"save_all": True, "append_images": [scene(mode="L").convert("RGB")]}
    turned = exif([(0x0112, 3, 1, b"\6\0\0\0")])
    return [
        saved(still, "PNG", exif=turned),
        saved(ghost, "PNG"),
        saved(ghost.convert("P"), "PNG"),
        saved(still.convert("1"), "PNG", transparency=1),
        saved(still, "PNG", **frames),
        saved(still, "JPEG", exif=turned, quality=95),
        saved(still, "JPEG", progressive=True),
        saved(still.convert("CMYK"), "JPEG"),
        saved(still.convert("L"), "JPEG", comment=b"hello"),
        saved(still, "WEBP", exif=turned),
        saved(ghost, "WEBP", lossless=True),
        saved(ghost, "WEBP"),
        saved(still, "WEBP", **frames),
    ]


REAL = _real_files()


def read_or_refuse(data: bytes) -> None:
    """Reads a file both ways; anything but a picture within the limits or a refusal fails."""
    refusals = [refusal(read, data) for read in (read_picture, read_texts)]
    assert all(told.field == "image" and told.message.endswith(".") for told in refusals if told)
    if refusals[0] is None:
        picture = read_picture(data, "image", LIMITS)
        assert picture.image.mode == "RGB"
        assert picture.width * picture.height <= LIMITS.max_pixels
        assert picture.alpha is None or picture.alpha.size == picture.image.size
        assert len(picture.image.tobytes()) == picture.width * picture.height * 3
    if refusals[1] is None:
        assert all(isinstance(text, str) for text in read_texts(data, "image", LIMITS).values())


def refusal(
    read: Callable[[bytes, str, PictureLimits], object], data: bytes
) -> InvalidArgument | None:
    try:
        read(data, "image", LIMITS)
    except InvalidArgument as refused:
        return refused
    return None


@pytest.mark.parametrize("data", REAL)
def test_the_real_files_are_read(data: bytes):
    assert sorted(read_picture(data, "f", LIMITS).image.size) == [24, 40]


@settings(max_examples=200, deadline=None)
@given(
    data=st.sampled_from(REAL),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
    ),
    mend=st.booleans(),
)
def test_changed_files_are_read_or_refused(
    data: bytes, changes: list[tuple[float, int]], mend: bool
):
    file = bytearray(data)
    for place, value in changes:
        file[int(place * len(file))] = value
    read_or_refuse(mended(bytes(file)) if mend and file.startswith(b"\x89PNG") else bytes(file))


@settings(max_examples=150, deadline=None)
@given(
    data=st.sampled_from(REAL),
    start=st.floats(0, 1),
    length=st.integers(0, 200),
    filling=st.binary(max_size=40),
)
def test_files_with_parts_cut_out_are_read_or_refused(
    data: bytes, start: float, length: int, filling: bytes
):
    at = int(start * len(data))
    read_or_refuse(data[:at] + filling + data[at + length :])


@settings(max_examples=100, deadline=None)
@given(
    head=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBP", b"GIF89a"]
    ),
    rest=st.binary(max_size=300),
)
def test_noise_is_refused(head: bytes, rest: bytes):
    read_or_refuse(head + rest)


@settings(max_examples=100, deadline=None)
@given(
    chunks=st.lists(
        st.tuples(
            st.sampled_from(
                [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"acTL", b"fcTL", b"eXIf", b"zTXt"]
            ),
            st.binary(max_size=60),
        ),
        max_size=6,
    ),
    depth=st.integers(0, 17),
    colour=st.integers(0, 7),
    rows=st.binary(max_size=200),
)
def test_pngs_of_any_chunks_are_read_or_refused(
    chunks: list[tuple[bytes, bytes]], depth: int, colour: int, rows: bytes
):
    read_or_refuse(png(5, 3, depth, colour, rows, chunks))


_VP8X = b"\0\0\0\0" + (39).to_bytes(3, "little") + (23).to_bytes(3, "little")


@settings(max_examples=100, deadline=None)
@given(
    chunks=st.lists(
        st.one_of(
            st.sampled_from([REAL[9][12:], REAL[10][12:], webp_chunk(b"VP8X", _VP8X)]),
            st.builds(
                webp_chunk,
                st.sampled_from([b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"EXIF"]),
                st.binary(max_size=60),
            ),
        ),
        max_size=5,
    )
)
def test_webps_of_any_chunks_are_read_or_refused(chunks: list[bytes]):
    read_or_refuse(webp(*chunks))


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=80), order=st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_any_exif_data_is_survived(data: bytes, order: bytes):
    plain = REAL[5]
    read_or_refuse(plain[:2] + jpeg_segment(0xE1, b"Exif\0\0" + order + data) + plain[2:])


def test_cut_files_are_refused():
    for data in REAL:
        for part in (0.3, 0.6, 0.9):
            with pytest.raises(InvalidArgument):
                read_picture(data[: int(len(data) * part)], "f", LIMITS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"BM" + bytes(20), "BMP"),
        (b"\0\0\0\x20ftypavif" + bytes(20), "AVIF"),
        (b"<svg xmlns=", "SVG"),
        (b"hello", "no picture"),
        (png(0, 4, 8, 0, b""), "empty"),
        (png(4, 4, 8, 3, bytes(20)), "palette"),
        (b"\x89PNG\r\n\x1a\n", "no pixels"),
        (REAL[0][:-30], "cut off"),
    ],
)
def test_a_refusal_says_what_is_wrong(data: bytes, words: str):
    with pytest.raises(InvalidArgument) as refused:
        read_picture(data, "inpainting.mask", LIMITS)
    assert words in refused.value.message
    assert refused.value.field == "inpainting.mask"


def test_wrong_checksums_are_refused():
    data = bytearray(REAL[1])
    data[data.index(b"IDAT") + 10] ^= 1
    with pytest.raises(InvalidArgument, match="checksum"):
        read_picture(bytes(data), "f", LIMITS)


def test_decoding_warns_of_nothing_and_runs_in_threads():
    files = REAL * 8
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        read = list(pool.map(lambda data: read_picture(data, "f", LIMITS).image.tobytes(), files))
    assert read == [read_picture(data, "f", LIMITS).image.tobytes() for data in files]
