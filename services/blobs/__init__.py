"""Where the content of files is kept: one port, and what implements it."""

from services.blobs.opening import S3Access, open_blobs
from services.blobs.port import Blobs

__all__ = ["Blobs", "S3Access", "open_blobs"]
