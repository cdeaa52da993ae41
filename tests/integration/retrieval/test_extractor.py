"""Documents are read in processes that hostile ones can't break out of."""

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter

from services.errors import InvalidArgument
from services.retrieval.parsing import Extracted, Extractor
from services.retrieval.parsing.child import Child

SLOW_HTML = "<p>x" * 2_000_000
"""Takes seconds of processor time."""


def pdf_of(*pages: bytes, stream_filter: bytes = b"") -> bytes:
    """Writes a PDF by hand, each page with this stream of drawing commands."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, page in enumerate(pages):
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * number),
            b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(page), stream_filter, page),
        ]
    written = bytearray(b"%PDF-1.4\n")
    offsets: list[int] = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    written += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    written += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        len(objects) + 1,
        start,
    )
    return bytes(written)


def drawn(text: str) -> bytes:
    return b"BT /F1 12 Tf 72 720 Td (%b) Tj ET" % text.encode("cp1252")


def rewritten(pdf: bytes, *, password: str | None = None, title: str = "") -> bytes:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf)))
    if title:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(password, "owner", algorithm="RC4-128")
    file = BytesIO()
    writer.write(file)
    return file.getvalue()


@pytest.fixture
async def extractor() -> AsyncIterator[Extractor]:
    async with Extractor(processes=2) as made:
        yield made


class Started:
    """The processes that were started."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.one = asyncio.Event()

    def first_lives(self) -> bool:
        return Path(f"/proc/{self.children[0].pid}").exists()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    seen = Started()
    start = Child.start

    async def recorded(memory_bytes: int) -> Child:
        seen.children.append(await start(memory_bytes))
        seen.one.set()
        return seen.children[-1]

    monkeypatch.setattr(Child, "start", recorded)
    return seen


async def refusal(extractor: Extractor, content: str | bytes, mime_type: str = "") -> str:
    with pytest.raises(InvalidArgument) as caught:
        await extractor.extract(content, mime_type)
    assert caught.value.field in {"document.data", "document.mime_type"}
    return caught.value.message


async def test_every_format(extractor: Extractor) -> None:
    pdf = rewritten(pdf_of(drawn("The sky on Mars is red."), drawn("Page é.")), title="Mars")
    for content, mime_type, expected in (
        ("a\r\nb", "", Extracted("a\nb", "", "text/plain")),
        (b"a\r\nb", "text/x-rst", Extracted("a\nb", "", "text/x-rst")),
        ("# T\n\nx", "text/markdown", Extracted("# T\n\nx", "T", "text/markdown")),
        ("<h1>T</h1>x", "text/html", Extracted("# T\n\nx", "T", "text/html")),
        (
            b"<!doctype html><meta charset=latin1><p>\xe9",
            "",
            Extracted("é", "", "text/html"),
        ),
        (pdf, "", Extracted("The sky on Mars is red.\n\nPage é.", "Mars", "application/pdf")),
    ):
        assert await extractor.extract(content, mime_type) == expected


async def test_pdfs_that_can_not_be_read(extractor: Extractor) -> None:
    whole = pdf_of(drawn("Hello"))
    assert "encrypted" in await refusal(extractor, rewritten(whole, password="secret"))
    assert "no text" in await refusal(extractor, pdf_of(b""))
    assert "broken" in await refusal(extractor, b"%PDF-1.4\n" + os.urandom(5000))
    assert "broken" in await refusal(extractor, whole[: len(whole) // 3])
    opened = await extractor.extract(rewritten(whole, password=""))
    assert opened.text == "Hello", "only its owner's password is set"


async def test_a_pdf_that_unpacks_to_very_much_is_refused(extractor: Extractor) -> None:
    squeezer = zlib.compressobj()
    bomb = b"".join(squeezer.compress(b" " * 1_000_000) for _ in range(300)) + squeezer.flush()
    assert len(bomb) < 1_000_000
    message = await refusal(extractor, pdf_of(bomb, stream_filter=b"/Filter /FlateDecode"))
    assert "split it" in message
    assert (await extractor.extract("<p>x", "text/html")).text == "x"


async def test_a_document_that_takes_too_long_is_refused() -> None:
    async with Extractor(processes=1, cpu_s=1) as extractor:
        assert "takes too long" in await refusal(extractor, SLOW_HTML, "text/html")
        assert (await extractor.extract("<p>x", "text/html")).text == "x"


async def test_a_document_that_takes_too_much_memory_is_refused() -> None:
    async with Extractor(processes=1, memory_bytes=200 * 1024**2) as extractor:
        assert (await extractor.extract("<p>x", "text/html")).text == "x"
        message = await refusal(extractor, "<p>x" * 5_000_000, "text/html")
        assert "memory" in message or "can't be read" in message
        assert (await extractor.extract("<p>y", "text/html")).text == "y"


async def test_text_that_is_too_long_is_refused() -> None:
    async with Extractor(max_characters=100) as extractor:
        for mime_type in ("text/plain", "text/markdown", "text/html"):
            assert len((await extractor.extract("x" * 100, mime_type)).text) == 100
            assert "more text" in await refusal(extractor, "x" * 101, mime_type)
        page = pdf_of(drawn("x" * 60), drawn("x" * 60))
        assert "more text" in await refusal(extractor, page)


async def test_a_process_that_was_killed_is_replaced(
    extractor: Extractor, started: Started
) -> None:
    assert (await extractor.extract("<p>x", "text/html")).text == "x"
    os.kill(started.children[0].pid, 9)
    assert (await extractor.extract("<p>y", "text/html")).text == "y"
    assert len(started.children) == 2
    assert (await extractor.extract("<p>z", "text/html")).text == "z"
    assert len(started.children) == 2, "a process reads many documents"


async def test_cancelling_stops_the_reading(started: Started) -> None:
    async with Extractor(processes=1) as extractor:
        reading = asyncio.create_task(extractor.extract(SLOW_HTML, "text/html"))
        await started.one.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not started.first_lives()
        assert (await extractor.extract("<p>x", "text/html")).text == "x"


async def test_many_at_once(extractor: Extractor) -> None:
    found = await asyncio.gather(
        *(extractor.extract(f"<p>{number}", "text/html") for number in range(50))
    )
    assert [document.text for document in found] == [str(number) for number in range(50)]


async def test_closing_ends_the_processes(started: Started) -> None:
    async with Extractor() as extractor:
        await extractor.extract("<p>x", "text/html")
        assert started.first_lives()
    assert not started.first_lives()
