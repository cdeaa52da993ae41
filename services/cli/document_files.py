"""Files on the way to becoming documents: which there are, and what they are called."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.retrieval.v1 import document_pb2

from services.cli.failures import UsageFailure

MAX_BYTES = 32 * 1024 * 1024
MIME_TYPES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".txt": "text/plain",
    ".rst": "text/plain",
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": "application/pdf",
}
"""What is taken from folders, by suffix."""


class UnreadableError(Exception):
    """A file can't become a document; the text says why."""


@dataclass(frozen=True)
class SourceFile:
    """A file to load."""

    id: str
    """ID of the document: the path from where the command runs."""
    path: Path
    mime_type: str
    """Empty: the service finds out."""

    def read(self) -> document_pb2.Document:
        """Reads it. Raises UnreadableError."""
        try:
            if self.path.stat().st_size > MAX_BYTES:
                raise UnreadableError(f"It is larger than {MAX_BYTES // 1024**2} MiB: split it.")
            data = self.path.read_bytes()
        except OSError as error:
            raise UnreadableError(f"It can't be read: {error.strerror}.") from error
        if not data:
            raise UnreadableError("It is empty.")
        document = document_pb2.Document(name=self.id, mime_type=self.mime_type)
        document.data = data
        return document


def find_files(paths: Iterable[Path]) -> list[SourceFile]:
    """Returns the files, and those in the folders, in order. Raises UsageFailure for none.

    Of folders, hidden files and other kinds of files are left out; a file that is named is taken
    whatever it is.
    """
    found: dict[str, SourceFile] = {}
    for path in paths:
        for file, base in _files(path):
            source = SourceFile(
                _document_id(file, base), file, MIME_TYPES.get(file.suffix.lower(), "")
            )
            other = found.setdefault(source.id, source)
            if not os.path.samefile(other.path, source.path):
                raise UsageFailure(
                    f"{other.path} and {source.path} would both be the document {source.id}.",
                    hint="Load them from a folder that holds both, or one by one from their own.",
                )
    if not found:
        raise UsageFailure(
            "There is nothing to load.",
            hint=f"Name files, or folders with files that end in {', '.join(MIME_TYPES)}.",
        )
    return list(found.values())


def _files(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yields files, each with the folder that their IDs start from if they lie elsewhere."""
    if not path.is_dir():
        yield path, path.parent
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.suffix.lower() in MIME_TYPES and file.is_file():
                yield file, path.absolute().parent


def _document_id(file: Path, base: Path) -> str:
    here = Path(os.path.normpath(file.absolute()))
    for folder in (Path.cwd(), Path(os.path.normpath(base.absolute()))):
        if here.is_relative_to(folder):
            return here.relative_to(folder).as_posix()
    return here.name
