"""Where weights may come from."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from services.errors import InvalidArgument


class SourcePolicy:
    """Decides which folders a deploy call may name.

    With roots, a source is a folder at or below one of them, links followed; relative paths count
    from the roots. Without roots, any absolute path of a folder will do. Models of the
    configuration file are not asked: who writes that file may name any folder.
    """

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        self._roots = tuple(root.expanduser().resolve() for root in roots)

    async def check(self, source: str) -> str:
        """Returns the folder's real path, or raises `InvalidArgument`."""
        return await asyncio.to_thread(self._check, source)

    def _check(self, source: str) -> str:
        if "\0" in source or "://" in source:
            raise _refused("is not a folder: give the path of one")
        path = Path(source)
        if path.is_absolute():
            candidates = [path]
        elif self._roots:
            candidates = [root / path for root in self._roots]
        else:
            raise _refused("must be an absolute path: this server fetches nothing by a name")
        for candidate in candidates:
            try:
                real = candidate.resolve(strict=True)
                folder = real.is_dir()
            except (OSError, RuntimeError):
                continue
            # Folders outside are refused in the words for missing ones: nobody probes the disk.
            if folder and self._allows(real):
                return str(real)
        where = " among the folders that models may come from" if self._roots else ""
        raise _refused(f"is not an existing folder{where}")

    def _allows(self, path: Path) -> bool:
        return not self._roots or any(path.is_relative_to(root) for root in self._roots)


def _refused(why: str) -> InvalidArgument:
    return InvalidArgument(f"The source {why}.", field="source")
