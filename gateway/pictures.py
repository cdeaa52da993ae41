"""Pictures inside of JSON: base64, bare or as a `data:` URL. Nothing is ever fetched."""

import binascii
import re

from gateway.errors import invalid

_MOST_BYTES = 64 * 1024 * 1024
"""Largest file that the image service takes."""

_LONGEST_HEAD = 256
_DATA = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def picture_bytes(text: str, field: str) -> bytes:
    """Reads the file that a text holds in base64, with or without `data:…;base64,` before it.

    What the file is, the image service says from its bytes; a media type is not looked at.

    Raises:
        ProblemError: it is no base64, a URL of something elsewhere, empty or too large.
    """
    start = 0
    head = text[:_LONGEST_HEAD].lstrip()
    if _SCHEME.match(head):
        prefix = _DATA.match(head)
        if prefix is None:
            raise invalid(_elsewhere(head, field), field)
        start = prefix.end() + text.index(head[0])
    try:
        data = binascii.a2b_base64(_plain(text[start:]), strict_mode=True)
    except ValueError:  # binascii.Error is one; so is what isn't ASCII
        message = f"Invalid '{field}': not base64. Send an image file in standard base64."
        raise invalid(message, field) from None
    if not data:
        raise invalid(f"Invalid '{field}': no image. Send an image file in base64.", field)
    if len(data) > _MOST_BYTES:
        message = f"Invalid '{field}': larger than the limit of {_MOST_BYTES} bytes."
        raise invalid(message, field)
    return data


def _elsewhere(head: str, field: str) -> str:
    if head[:5].lower() == "data:":
        return f"Invalid '{field}': a data URL must begin with data:<type>;base64, and no more."
    return f"Invalid '{field}': images are not fetched: send the file itself as base64."


def _plain(text: str) -> str:
    """Some encoders break their lines."""
    return "".join(text.split()) if any(blank in text for blank in " \t\r\n") else text
