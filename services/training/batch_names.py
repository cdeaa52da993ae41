"""IDs and names of batches, and of their requests."""

import hashlib
import re
import secrets
from string import ascii_letters, digits

from services.errors import InvalidArgument, NotFound

_ALPHABET = digits + ascii_letters
_BATCHES = "batches/"
_BATCH_ID = re.compile("batch_[0-9A-Za-z]{24}")
_LENGTH = 24
_SHOWN = 80


def new_batch_id() -> str:
    """Draws the ID of a batch."""
    return "batch_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def new_lease_id() -> str:
    """Draws the ID of a lease."""
    return secrets.token_hex(16)


def batch_name(id: str) -> str:
    """Returns the resource name of a batch."""
    return f"{_BATCHES}{id}"


def request_id_of(batch_id: str, number: int) -> str:
    """Returns the ID of a request of a batch: the same however often it is run."""
    drawn = hashlib.sha256(f"{batch_id}/{number}".encode()).digest()
    return "batch_req_" + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in drawn[:_LENGTH])


def parse_batch(name: str, field: str) -> str:
    """Reads the ID from `batches/{batch}`.

    Raises:
        InvalidArgument: it is no name of a batch.
        NotFound: no batch could have this ID.
    """
    id = name.removeprefix(_BATCHES)
    if id == name or not id or "/" in id:
        raise InvalidArgument(
            f"'{field}': must be '{_BATCHES}' and the ID of a batch.", field=field
        )
    if not _BATCH_ID.fullmatch(id):
        raise no_batch(id, field)
    return id


def no_batch(id: str, field: str | None = None) -> NotFound:
    """The error for a batch that does not exist for the caller."""
    return NotFound(f"There is no batch {id[:_SHOWN]!r}.", field=field)
