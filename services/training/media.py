"""Media types of files."""

import mimetypes
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from services.errors import InvalidArgument

_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(\s*;\s*{_TOKEN}=({_TOKEN}|\"[A-Za-z0-9 !#-+\--~]*\"))*")
_UNKNOWN = "application/octet-stream"

# Without this machine's own lists, so that every machine says the same.
_KNOWN = mimetypes.MimeTypes(filenames=())
for _ending, _type in {
    ".jsonl": "application/jsonl",
    ".ndjson": "application/x-ndjson",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}.items():
    _KNOWN.add_type(_type, _ending)


def media_type(given: str, filename: str, field: str) -> str:
    """Returns the media type that an uploader gave, or what the name's ending says.

    Raises:
        InvalidArgument: what was given is no media type.
    """
    if not given:
        known, packed = _KNOWN.guess_type(f"file:{filename}")
        return known if known is not None and packed is None else _UNKNOWN
    if not _TYPE.fullmatch(given):
        raise InvalidArgument(
            f"'{field}': must be a media type such as 'application/jsonl'.", field=field
        )
    return given


def check_type(type: str, allowed: Sequence[str], field: str) -> None:
    """Raises `InvalidArgument` unless a type is one of those allowed, such as `image/*`; without
    any, all are."""
    bare = type.partition(";")[0].strip().lower()
    if allowed and not any(fnmatchcase(bare, pattern.lower()) for pattern in allowed):
        raise InvalidArgument(
            f"'{field}': {bare!r} is not taken here. Types that are: {', '.join(allowed)}.",
            field=field,
        )
