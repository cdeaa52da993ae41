"""What files say of themselves, written by us and by others."""

import zlib
from collections.abc import Sequence
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from services.image.pictures.exif import read_exif, write_comment
from services.image.pictures.reading import PictureLimits, read_texts
from services.image.pictures.writing import OutputFile, OutputFormat, write_picture
from tests.unit.image.pictures.picture_files import LIMITS, exif, jpeg_segment, png, saved, scene

ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize("file_format", OutputFormat)
@settings(max_examples=60, deadline=None)
@given(text=ANYTHING)
def test_an_infotext_is_read_back_from_every_format(file_format: OutputFormat, text: str):
    data, _ = write_picture(scene(8, 8), OutputFile(file_format, 50), text)
    # A text in EXIF data ends where nothing but NULs follow; requests can't hold them anyway.
    kept = text if file_format is OutputFormat.PNG else text.rstrip("\0")
    assert read_texts(data, "f", LIMITS) == ({"parameters": kept} if kept else {})


def test_a_long_infotext_goes_over_several_segments_of_a_jpeg():
    text = "雪 and snow, " * 20_000
    limits = PictureLimits(LIMITS.max_pixels, LIMITS.max_side)
    data, _ = write_picture(scene(), OutputFile(OutputFormat.JPEG), text)
    assert read_texts(data, "f", limits) == {"parameters": text}


def test_other_readers_find_the_infotext():
    text = "снег\nSteps: 20"
    for file_format in OutputFormat:
        data, _ = write_picture(scene(), OutputFile(file_format), text)
        with Image.open(BytesIO(data)) as image:
            if file_format is OutputFormat.PNG:
                assert image.info["parameters"] == text
            else:
                comment = image.getexif().get_ifd(0x8769)[0x9286]
                assert comment == b"UNICODE\0" + text.encode("utf-16-be")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", ["plain", "caf\xe9", "雪\nsnow", ""])
def test_texts_of_a_png_are_read_however_they_are_kept(packed: bool, text: str):
    texts = PngInfo()
    texts.add_text("Title", text, zip=packed)
    texts.add_itxt("Comment", text, "de", "Bemerkung", zip=packed)
    data = saved(scene(), "PNG", pnginfo=texts)
    assert read_texts(data, "f", LIMITS) == {"Title": text, "Comment": text}


def test_texts_behind_the_pixels_are_read_and_win_over_exif_data():
    data = png(
        1,
        1,
        8,
        0,
        b"\0\0",
        before=[(b"eXIf", write_comment("from the camera"))],
        after=[(b"tEXt", b"parameters\0a cat")],
    )
    assert read_texts(data, "f", LIMITS) == {"parameters": "a cat"}


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b""),
        (b"tEXt", b"no end of the key"),
        (b"tEXt", b"\0no key"),
        (b"zTXt", b"key\0\1unknown packing"),
        (b"zTXt", b"key"),
        (b"iTXt", b"key\0\0"),
        (b"iTXt", b"key\0\1\1lang\0key\0text"),
        (b"iTXt", b"key\0\0\0no further fields"),
    ],
)
def test_text_chunks_that_break_the_rules_are_left_out(chunk: tuple[bytes, bytes]):
    assert read_texts(png(1, 1, 8, 0, b"\0\0", [chunk]), "f", LIMITS) == {}


def test_broken_packed_text_is_empty_and_broken_utf8_is_marked():
    chunks = [
        (b"zTXt", b"a\0\0not packed"),
        (b"zTXt", b"b\0\0" + zlib.compress(b"cut off")[:-6]),
        (b"iTXt", b"c\0\0\0\0\0\xff"),
    ]
    texts = read_texts(png(1, 1, 8, 0, b"\0\0", chunks), "f", LIMITS)
    assert texts["a"] == ""
    assert "cut off".startswith(texts["b"])
    assert texts["c"] == "\ufffd"


def test_the_texts_together_may_be_as_long_as_allowed():
    limits = PictureLimits(1, 1, max_text_bytes=10)
    chunks = [(b"tEXt", b"a\0abcde"), (b"zTXt", b"b\0\0" + zlib.compress(b"fghij"))]
    assert read_texts(png(1, 1, 8, 0, b"\0\0", chunks), "f", limits) == {"a": "abcde", "b": "fghij"}
    with pytest.raises(Exception, match="10 bytes of text"):
        read_texts(png(1, 1, 8, 0, b"\0\0", [*chunks, (b"tEXt", b"c\0!")]), "f", limits)


def test_the_comment_of_a_jpeg_is_read():
    plain = saved(scene(), "JPEG")
    data = plain[:2] + jpeg_segment(0xFE, "grüße".encode()) + plain[2:]
    assert read_texts(data, "f", LIMITS) == {"comment": "grüße"}


def _with_comment(comment: bytes, order: str) -> bytes:
    """EXIF data whose second directory, at 26, has a user comment, at 44."""
    name = "little" if order == "II" else "big"
    entry = (0x9286).to_bytes(2, name) + (7).to_bytes(2, name)
    entry += len(comment).to_bytes(4, name) + (44).to_bytes(4, name)
    second = (1).to_bytes(2, name) + entry + bytes(4)
    pointer: Sequence[tuple[int, int, int, bytes]] = [(0x8769, 4, 1, (26).to_bytes(4, name))]
    return exif(pointer, second + comment, order)


@pytest.mark.parametrize(
    ("comment", "order", "text"),
    [
        (b"ASCII\0\0\0a cat", "II", "a cat"),
        (b"ASCII\0\0\0a cat\0\0", "MM", "a cat"),
        (b"\0\0\0\0\0\0\0\0caf\xc3\xa9", "MM", "café"),
        (b"\0\0\0\0\0\0\0\0caf\xe9", "MM", "café"),
        (b"UNICODE\0" + "a cat".encode("utf-16-be"), "MM", "a cat"),
        (b"UNICODE\0" + "a cat".encode("utf-16-be"), "II", "a cat"),
        (b"UNICODE\0" + "a cat".encode("utf-16-le"), "II", "a cat"),
        (b"UNICODE\0\xff\xfe" + "a cat".encode("utf-16-le"), "MM", "a cat"),
        (b"UNICODE\0\xfe\xff" + "a cat".encode("utf-16-be"), "II", "a cat"),
        (b"UNICODE\0\0", "MM", "\ufffd"),
        (b"JIS\0\0\0\0\0" + "雪".encode("iso2022_jp"), "MM", "雪"),
        (b"UNIC", "MM", ""),
        (b"", "MM", ""),
    ],
)
def test_comments_of_others_are_read(comment: bytes, order: str, text: str):
    assert read_exif(_with_comment(comment, order)).text == text


@given(data=st.binary(max_size=120))
def test_reading_exif_data_never_fails(data: bytes):
    for start in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        found = read_exif(start + data)
        assert 1 <= found.orientation <= 8
        assert isinstance(found.text, str)
