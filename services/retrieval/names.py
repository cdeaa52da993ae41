"""IDs and resource names of collections, documents and prompts."""

import re
import secrets
import uuid
from string import ascii_letters, digits
from typing import NamedTuple

from services.errors import InvalidArgument

_ALPHABET = digits + ascii_letters
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_COLLECTION_ID = re.compile(r"[^/\s\x00-\x1f\x7f]{1,128}")
_MOST_NAME_BYTES = 1024
_MOST_TENANT = 128
_SHOWN = 200
BUILTIN = "builtin::"
"""Begins the IDs of prompts that come with Penstock."""


class CollectionRef(NamedTuple):
    """A collection, by name."""

    tenant: str
    id: str

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"tenants/{self.tenant}/collections/{self.id}"


class DocumentRef(NamedTuple):
    """A document, by name."""

    collection: CollectionRef
    id: str

    @property
    def name(self) -> str:
        """Its resource name."""
        return document_name(self.collection, self.id)


class PromptRef(NamedTuple):
    """A prompt, by name."""

    tenant: str
    key: str
    """ID or uid."""

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"tenants/{self.tenant}/prompts/{self.key}"


def document_name(collection: CollectionRef, id: str) -> str:
    """Returns the resource name of a document."""
    return f"{collection.name}/documents/{id}"


def parse_tenant(name: str, field: str) -> str:
    """Reads `tenants/{tenant}`."""
    (tenant,) = _split(name, "tenants", "tenants/{tenant}", field)
    return tenant


def parse_collection(name: str, field: str) -> CollectionRef:
    """Reads `tenants/{tenant}/collections/{collection}`."""
    shape = "tenants/{tenant}/collections/{collection}"
    tenant, collection = _split(name, "tenants collections", shape, field)
    return CollectionRef(tenant, collection)


def parse_document(name: str, field: str) -> DocumentRef:
    """Reads `tenants/{tenant}/collections/{collection}/documents/{document}`."""
    shape = "tenants/{tenant}/collections/{collection}/documents/{document}"
    tenant, collection, document = _split(name, "tenants collections documents", shape, field)
    return DocumentRef(CollectionRef(tenant, collection), document)


def parse_prompt(name: str, field: str) -> PromptRef:
    """Reads `tenants/{tenant}/prompts/{prompt}`."""
    tenant, prompt = _split(name, "tenants prompts", "tenants/{tenant}/prompts/{prompt}", field)
    return PromptRef(tenant, prompt)


def _split(name: str, words: str, shape: str, field: str) -> list[str]:
    """Returns what stands for the variables of a name; the last of a document may hold slashes."""
    wanted = words.split()
    segments = name.split("/", 2 * len(wanted) - 1)
    found = segments[1::2]
    if (
        segments[::2] != wanted
        or len(found) != len(wanted)
        or not all(found)
        or ("/" in found[-1] and wanted[-1] != "documents")
    ):
        raise InvalidArgument(f"{_shown(name)} is not a name like {shape!r}.", field=field)
    tenant = found[0]
    if _CONTROL.search(name) or len(tenant) > _MOST_TENANT or tenant == "*":
        raise InvalidArgument(f"{_shown(name)} names nothing that can be.", field=field)
    return found


def check_collection_id(id: str, field: str) -> str:
    """Returns the ID, or raises `InvalidArgument` where it can't name a collection."""
    if not _COLLECTION_ID.fullmatch(id):
        raise InvalidArgument(
            f"{_shown(id)} is no ID of a collection: use 1 to 128 characters without slashes, "
            "blanks and control characters.",
            field=field,
        )
    return id


def check_document_id(name: str, collection: CollectionRef, field: str) -> str:
    """Returns the ID in a document's name, or in an ID given alone; a new one for an empty name.

    Raises:
        InvalidArgument: it can't be an ID, or names a document of another collection.
    """
    if not name:
        return str(uuid.uuid4())
    id = name
    if re.fullmatch(r"tenants/[^/]+/collections/[^/]+/documents/.+", name, re.DOTALL):
        prefix = f"{collection.name}/documents/"
        if not name.startswith(prefix):
            raise InvalidArgument(
                f"{_shown(name)} is not in {collection.name!r}, where the stream puts documents.",
                field=field,
            )
        id = name.removeprefix(prefix)
    if _CONTROL.search(id) or len(document_name(collection, id).encode()) > _MOST_NAME_BYTES:
        raise InvalidArgument(
            f"{_shown(id)} is no ID of a document: use no control characters, and at most "
            f"{_MOST_NAME_BYTES} bytes for the whole name.",
            field=field,
        )
    return id


def check_prompt_id(id: str, field: str) -> str:
    """Returns the ID, or raises `InvalidArgument` where it can't name a prompt of a user."""
    if id.startswith(BUILTIN):
        raise InvalidArgument(
            f"{_shown(id)}: IDs that begin with {BUILTIN!r} are kept for prompts that come with "
            "Penstock. Choose another.",
            field=field,
        )
    return id


def is_uid(text: str) -> bool:
    """Tells whether a text has the form of a `uid`."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def new_collection_id() -> str:
    """Returns `vs_` and 24 characters."""
    return "vs_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def new_uid() -> str:
    """Returns a new `uid`."""
    return str(uuid.uuid4())


def new_etag() -> str:
    """Returns an etag that no state had before."""
    return secrets.token_hex(8)


def model_id(name: str) -> str:
    """Returns the ID or alias in a name of a model, with or without `models/`."""
    return name.removeprefix("models/")


def _shown(text: str) -> str:
    return repr(text[:_SHOWN])
