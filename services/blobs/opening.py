"""Opens what keeps the blobs, as the settings say."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.blobs.folder import FolderBlobs
from services.blobs.objects import ObjectBlobs
from services.blobs.port import Blobs


@dataclass(frozen=True, kw_only=True)
class S3Access:
    """How an object store is reached. What is empty is found as AWS's own tools find it."""

    endpoint_url: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""


def open_blobs(folder: Path, url: str = "", access: S3Access | None = None) -> Blobs:
    """Opens the object store that a URL names; without one, a folder.

    Raises:
        ValueError: it can't be used; says what to do.
    """
    if url:
        return _object_store(url, access or S3Access())
    try:
        return FolderBlobs(folder)
    except OSError as error:
        raise ValueError(f"the folder {folder} can't be used: {error.strerror}") from error


def _object_store(url: str, access: S3Access) -> ObjectBlobs:
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no s3://bucket/prefix; for a folder, set 'folder' instead")
    try:
        library: Any = importlib.import_module("s3fs")
    except ModuleNotFoundError as error:
        raise ValueError("object stores need s3fs: install the extra 'penstock[s3]'") from error
    client = {"endpoint_url": access.endpoint_url, "region_name": access.region}
    system = library.S3FileSystem(
        key=access.access_key_id or None,
        secret=access.secret_access_key or None,
        client_kwargs={name: value for name, value in client.items() if value},
        # What another process wrote or deleted must not be told from memory.
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return ObjectBlobs(system, f"{parts.netloc}{parts.path}")
