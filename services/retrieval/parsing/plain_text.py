"""Bytes to text, and text as it is kept."""

import codecs
import re

from services.errors import InvalidArgument
from services.retrieval.parsing.formats import DATA_FIELD, MIME_TYPE_FIELD

_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_TEXT_CODECS = re.compile(
    r"utf_?(?:7|8|16|32).*|ascii|latin_?1|iso8859.*|cp\d+|koi8.*|mac_.*|big5.*|gb.*|euc_.*|"
    r"shift_jis.*|iso2022.*|hz|johab|tis_620|ptcp154|kz1048",
    re.IGNORECASE,
)
"""Python knows codecs that are none of text, such as zlib."""


def decoded(content: bytes, charset: str) -> str:
    """Returns the text of bytes: in the charset, else by the byte order mark, else UTF-8.

    Raises InvalidArgument when they aren't.
    """
    for bom, name in _BOMS.items():
        if content.startswith(bom):
            content, charset = content[len(bom) :], name
            break
    codec = codec_of(charset or "utf-8")
    if codec is None:
        raise InvalidArgument(f"The charset {charset} is unknown.", field=MIME_TYPE_FIELD)
    try:
        return content.decode(codec)
    except UnicodeError as error:
        raise InvalidArgument(
            f"The data is no text in {codec}. Name its charset, for example "
            "`text/plain; charset=windows-1252`, or send it as UTF-8.",
            field=DATA_FIELD,
        ) from error


def codec_of(charset: str) -> str | None:
    """Returns the name of Python's codec for a charset; None when there is none for texts."""
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):  # ValueError: a name with U+0000
        return None
    return name if _TEXT_CODECS.fullmatch(name.replace("-", "_")) else None


def kept(text: str) -> str:
    """Returns a text as it is kept: `\\n` as line end, no U+0000, no halves of characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").removeprefix("\ufeff")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
