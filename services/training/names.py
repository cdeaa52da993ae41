"""IDs and names of files."""

import re
import secrets
import unicodedata
from string import ascii_letters, digits

from services.errors import InvalidArgument, NotFound

_ALPHABET = digits + ascii_letters
_FILES = "files/"
_FILE_ID = re.compile("file-[0-9A-Za-z]{24}")
_MOST_FILENAME_BYTES = 255
_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that no name has: controls, halves of pairs, separators of lines."""
_SHOWN = 80


def new_file_id() -> str:
    """Draws an ID."""
    return "file-" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def file_name(id: str) -> str:
    """Returns the resource name of a file."""
    return f"{_FILES}{id}"


def parse_file(name: str, field: str) -> str:
    """Reads the ID from `files/{file}`.

    Raises:
        InvalidArgument: it is no name of a file.
        NotFound: no file could have this ID.
    """
    id = name.removeprefix(_FILES)
    if id == name or "/" in id:
        raise InvalidArgument(f"'{field}': must be 'files/' and the ID of a file.", field=field)
    if not _FILE_ID.fullmatch(id):
        raise no_file(id, field)
    return id


def no_file(id: str, field: str | None = None) -> NotFound:
    """The error for a file that does not exist for the caller."""
    return NotFound(f"There is no file {id[:_SHOWN]!r}.", field=field)


def blob_of(id: str) -> str:
    """Returns the key of a file's content. Nothing that callers say is in it."""
    return f"files/{id}"


def check_filename(filename: str, field: str) -> str:
    """Returns the name that an uploader gave. Raises `InvalidArgument` for one that leads to a
    folder, can't be shown or is too long."""
    if not filename or filename in {".", ".."} or "/" in filename or "\\" in filename:
        wrong = "must be the name of a file, without folders."
    elif any(unicodedata.category(character) in _UNSEEN for character in filename):
        wrong = "must not contain control characters."
    elif len(filename.encode()) > _MOST_FILENAME_BYTES:
        wrong = f"must be at most {_MOST_FILENAME_BYTES} bytes long."
    else:
        return filename
    raise InvalidArgument(f"'{field}': {wrong}", field=field)
