import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.retrieval.parsing.formats import Format, media_type, shortened
from services.retrieval.parsing.html_text import charset_of_html, text_of_html
from services.retrieval.parsing.markdown_text import text_of_markdown
from services.retrieval.parsing.pdf_text import text_of_pdf
from services.retrieval.parsing.plain_text import decoded, kept


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("plain &amp; simple", "plain & simple"),
        ("<p>one <b>bo</b>ld  \n word</p>", "one bold word"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<p> one </p>\n\n  <p> two </p>", "one\n\ntwo"),
        ("one<br>two<br><br>three", "one\ntwo\n\nthree"),
        ("<div>one</div><div>two</div>", "one\ntwo"),
        ("a<script>x()</script>b<style>y</style>", "ab"),
        ("a<noscript>no</noscript><template>no</template>", "a"),
        ("a<!-- not this -->b", "ab"),
        ("<nav>menu</nav><p>text", "menu\n\ntext"),
        ("<h1>A</h1>x<h3>B <i>b</i></h3>y", "# A\n\nx\n\n### B b\n\ny"),
        ("<h1></h1><p>x", "x"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<ul><li><p>one</p></li><li><b>two</b></li></ul>", "- one\n\n- two"),
        ("<ul><li>one<ul><li>in it</ul></ul>", "- one\n\n- in it"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a | b\n1 | 2"),
        ("a<pre>\n  if x:\n    <b>y</b>\n\n</pre>b", "a\n\n  if x:\n    y\n\nb"),
        ("<pre><code>one\ntwo\n</code></pre>", "one\ntwo"),
        ("<pre>\n\n</pre>x", "x"),
        ("a&nbsp;b", "a\xa0b"),
    ],
)
def test_html(html: str, text: str) -> None:
    assert text_of_html(html)[0] == text


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("<title> The\n title </title><h1>Heading</h1>", "The title"),
        ("<h1>The <i>heading</i></h1><h1>Second</h1>", "The heading"),
        ("<p>none</p>", ""),
        ("<body><svg><title>of a picture</title></svg>", ""),
    ],
)
def test_titles_of_html(html: str, title: str) -> None:
    assert text_of_html(html)[1] == title


def test_html_nested_deeper_than_calls_can_be() -> None:
    nested = "<div>" * 3000 + "deep" + "</div>" * 3000 + "<b>" * 3000 + "end"
    assert text_of_html(nested)[0] == "deep\nend"


@pytest.mark.parametrize(
    ("markdown", "text", "title"),
    [
        ("# Title\n\nSome *text* and `code`.\n", "# Title\n\nSome text and code.", "Title"),
        ("Title\n=====\nx", "# Title\n\nx", "Title"),
        ("one\ntwo\n\nthree", "one two\n\nthree", ""),
        ("- a\n- b\n", "- a\n- b", ""),
        ("```python\n# no heading\nx = 1\n```\n", "# no heading\nx = 1", ""),
        ("[name](http://x) ![alt](y.png)", "name", ""),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n", "a | b\n1 | 2", ""),
        ("~~gone~~ <b>html</b> <script>x</script>", "gone html", ""),
        (
            "---\ntitle: 'From above'\ntags: x\n---\n# H\n",
            "title: 'From above'\ntags: x\n\n# H",
            "From above",
        ),
        ("---\ntags: x\n---\n# H\n", "tags: x\n\n# H", "H"),
        ("---\n\n# H\n", "# H", "H"),
        ("> " * 40 + "quote", "quote", ""),
    ],
)
def test_markdown(markdown: str, text: str, title: str) -> None:
    assert text_of_markdown(markdown) == (text, title)


@pytest.mark.parametrize("count", [48, 49, 50, 98, 99, 100, 101, 500, 5000])
@pytest.mark.parametrize("mark", ["> ", "- "])
def test_markdown_that_is_nested_too_deep_is_refused_never_lost(mark: str, count: int) -> None:
    try:
        text, _ = text_of_markdown(mark * count + "word")
    except InvalidArgument as error:
        assert "nested" in error.message  # noqa: PT017
        assert count > 48
    else:
        assert "word" in text


@pytest.mark.parametrize(
    ("mime_type", "content", "format", "name", "charset"),
    [
        ("", "text", Format.PLAIN, "text/plain", ""),
        ("", "<html>", Format.PLAIN, "text/plain", ""),
        ("", b"text", Format.PLAIN, "text/plain", ""),
        ("", b"%PDF-1.7 ...", Format.PDF, "application/pdf", ""),
        ("", b"junk before\n%PDF-1.7 ...", Format.PDF, "application/pdf", ""),
        ("", b" <!-- x -->\n<!DOCTYPE html>", Format.HTML, "text/html", ""),
        ("", b"\xef\xbb\xbf<html lang=en>", Format.HTML, "text/html", ""),
        ("", b"a <b>word</b>", Format.PLAIN, "text/plain", ""),
        ("Text/HTML; charset=Latin1", b"x", Format.HTML, "text/html", "Latin1"),
        ('text/plain;x=y;CHARSET="utf-8"', "x", Format.PLAIN, "text/plain", "utf-8"),
        ("text/markdown", "x", Format.MARKDOWN, "text/markdown", ""),
        ("text/x-markdown", "x", Format.MARKDOWN, "text/x-markdown", ""),
        ("application/xhtml+xml", b"x", Format.HTML, "application/xhtml+xml", ""),
        ("text/x-rst", "x", Format.PLAIN, "text/x-rst", ""),
        ("application/pdf", b"x", Format.PDF, "application/pdf", ""),
    ],
)
def test_media_types(
    mime_type: str, content: str | bytes, format: Format, name: str, charset: str
) -> None:
    found = media_type(mime_type, content)
    assert (found.format, found.name, found.charset) == (format, name, charset)


@pytest.mark.parametrize(
    ("mime_type", "content", "words", "field"),
    [
        ("image/png", b"x", "image/png can't be read", "document.mime_type"),
        ("nonsense", "x", "nonsense can't be read", "document.mime_type"),
        ("application/pdf", "text", "send it in `data`", "document.mime_type"),
        ("", b"PK\x03\x04...", "ZIP archive or an Office document", "document.data"),
        ("", b"\x89PNG\r\n", "PNG", "document.data"),
    ],
)
def test_media_types_that_are_not_read(
    mime_type: str, content: str | bytes, words: str, field: str
) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        media_type(mime_type, content)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("content", "charset", "text"),
    [
        (b"plain", "", "plain"),
        ("é".encode(), "", "é"),
        (b"\xe9", "latin1", "é"),
        (b"\x80", "windows-1252", "€"),
        (codecs.BOM_UTF8 + "é".encode(), "latin1", "é"),
        (codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), "", "é"),
        (codecs.BOM_UTF32_BE + "é".encode("utf-32-be"), "", "é"),
        ("あ".encode("shift_jis"), "Shift_JIS", "あ"),
        ("中".encode("gb18030"), "GB18030", "中"),
    ],
)
def test_decoding(content: bytes, charset: str, text: str) -> None:
    assert decoded(content, charset) == text


@pytest.mark.parametrize(
    ("content", "charset", "words", "field"),
    [
        (b"\xe9", "", "no text in utf-8", "document.data"),
        (b"x", "klingon", "klingon is unknown", "document.mime_type"),
        (b"x", "a\0b", "is unknown", "document.mime_type"),
        (b"x", "zlib", "zlib is unknown", "document.mime_type"),
        (b"x", "rot13", "rot13 is unknown", "document.mime_type"),
        (b"x", "idna", "idna is unknown", "document.mime_type"),
        (b"x", "unicode_escape", "is unknown", "document.mime_type"),
    ],
)
def test_what_can_not_be_decoded(content: bytes, charset: str, words: str, field: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        decoded(content, charset)
    assert caught.value.field == field


def test_text_as_it_is_kept() -> None:
    assert kept("\ufeffa\r\nb\rc\0d\n") == "a\nb\ncd\n"
    assert kept("\ud83d\ude00 \ud800.") == "😀 \ufffd."
    assert kept("e\u0301") == "e\u0301", "not normalised"


def test_the_charset_that_html_names() -> None:
    assert charset_of_html(b'<meta charset="windows-1252">') == "cp1252"
    assert charset_of_html(b"<meta http-equiv=x content='text/html; charset=utf-8'>") == "utf-8"
    assert charset_of_html(b"<meta charset=nonsense>") == ""
    assert charset_of_html(b"<p>none") == ""


def test_long_titles_are_shortened() -> None:
    assert shortened(" a \n b ") == "a b"
    assert len(shortened("x" * 5000)) == 1024
    assert shortened(None) == ""


@given(st.binary(max_size=400), st.sampled_from(["", "utf-16", "latin1", "cp037", "utf-7", "hz"]))
def test_any_bytes_are_text_or_refused(content: bytes, charset: str) -> None:
    try:
        text = kept(decoded(content, charset))
    except InvalidArgument:
        return
    assert "\0" not in text
    assert "\r" not in text
    text.encode()


@given(st.text(max_size=400))
def test_any_text_is_html_and_markdown(text: str) -> None:
    for found in (*text_of_html(text), *text_of_markdown(text)):
        assert found == found.strip("\n")


@given(st.binary(max_size=300))
def test_bytes_that_are_no_pdf_are_refused(junk: bytes) -> None:
    with pytest.raises(InvalidArgument, match="The PDF"):
        text_of_pdf(b"%PDF-1.7\n" + junk, 1000)
