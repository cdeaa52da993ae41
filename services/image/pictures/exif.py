"""EXIF data, as far as pictures need it: how they are turned, and a comment.

It is read by hand, not by Pillow: there a few kilobytes of entries that all point to the same place
grow to gigabytes. What makes no sense counts as not said.
"""

from dataclasses import dataclass

PREFIX = b"Exif\0\0"
"""Stands before EXIF data in a JPEG."""

_ORIENTATION, _EXIF_DIRECTORY, _USER_COMMENT = 0x0112, 0x8769, 0x9286
_SHORT, _LONG, _UNDEFINED = 3, 4, 7
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Exif:
    """What was found."""

    orientation: int = 1
    """How to turn the picture, 1 to 8; 1 is as it stands."""
    comment: bytes = b""
    """The user comment, as it stands, with the eight bytes that name its characters."""
    little_endian: bool = False

    @property
    def text(self) -> str:
        """The user comment as text; empty when there is none."""
        return _decode(self.comment, self.little_endian)


def read_exif(data: bytes) -> Exif:
    """Reads EXIF data: a TIFF, from its byte order on. Never fails."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(data[:4])
    if order is None:
        return Exif()
    little = order == "little"
    first = _directory(data, _number(data[4:8], little), little)
    orientation = _value(first.get(_ORIENTATION), _SHORT, little)
    second = _directory(data, _value(first.get(_EXIF_DIRECTORY), _LONG, little) or 0, little)
    comment = b""
    entry = second.get(_USER_COMMENT)
    if entry is not None:
        count, at = _number(entry[4:8], little), _number(entry[8:12], little)
        comment = entry[8 : 8 + count] if count <= 4 else data[at : at + count]
    return Exif(
        orientation if orientation is not None and 1 <= orientation <= 8 else 1, comment, little
    )


def write_comment(text: str) -> bytes:
    """Makes EXIF data that holds a text as user comment, in UTF-16 as the WebUI writes it."""
    if text.startswith(_BYTE_ORDER_MARK):
        text = _BYTE_ORDER_MARK + text  # readers take off one
    comment = b"UNICODE\0" + text.encode("utf-16-be", "surrogatepass")
    head = b"MM\0*" + (8).to_bytes(4)
    first = _one_entry(_EXIF_DIRECTORY, _LONG, 1, 26)
    second = _one_entry(_USER_COMMENT, _UNDEFINED, len(comment), 44)
    return head + first + second + comment


def _one_entry(tag: int, kind: int, count: int, value: int) -> bytes:
    entry = tag.to_bytes(2) + kind.to_bytes(2) + count.to_bytes(4) + value.to_bytes(4)
    return (1).to_bytes(2) + entry + bytes(4)


def _number(data: bytes, little: bool) -> int:
    return int.from_bytes(data, "little" if little else "big")


def _directory(data: bytes, at: int, little: bool) -> dict[int, bytes]:
    """Returns the entries that are wanted, by their tags."""
    count = _number(data[at : at + 2], little) if at else 0
    found: dict[int, bytes] = {}
    for start in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        tag = _number(data[start : start + 2], little)
        if tag in (_ORIENTATION, _EXIF_DIRECTORY, _USER_COMMENT):
            found.setdefault(tag, data[start : start + 12])
    return found


def _value(entry: bytes | None, kind: int, little: bool) -> int | None:
    """Returns the single number of an entry, or None when it is none of that kind."""
    if entry is None or _number(entry[2:4], little) != kind or _number(entry[4:8], little) != 1:
        return None
    return _number(entry[8:10] if kind == _SHORT else entry[8:12], little)


def _decode(comment: bytes, little: bool) -> str:
    charset, body = comment[:8].rstrip(b"\0 ").upper(), comment[8:]
    if charset == b"UNICODE":
        text = _utf16(body, little)
    elif charset == b"JIS":
        text = body.decode("iso2022_jp", "replace")
    else:
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            text = body.decode("latin-1")
    return text.rstrip("\0")


def _utf16(body: bytes, little: bool) -> str:
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        order = "utf-16-le" if body[:2] == b"\xff\xfe" else "utf-16-be"
        return body[2:].decode(order, "replace")
    big = body.decode("utf-16-be", "replace")
    if not little:
        return big
    # Some write big-endian text into little-endian data: what has more plain letters is meant.
    other = body.decode("utf-16-le", "replace")
    return big if sum(map(str.isascii, big)) > sum(map(str.isascii, other)) else other
