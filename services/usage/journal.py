"""The journal: a process writes down what requests used, in files of its own, until the ledger has
it.

One `write` a record, and no sync to the disk: what was written is the kernel's, and outlives the
process however that ends. Only a machine that loses its power can lose the last seconds; a sync for
each request would make every one of them wait for the disk.

A process holds a lock (`flock`) on the file that it writes, which the kernel lets go of when the
process dies. So a file whose lock is free is whole, whoever wrote it, and whoever takes its lock
may send it on and delete it.
"""

import fcntl
import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from services.usage.records import Record, from_line, to_line

SEGMENT_BYTES: Final = 256 * 1024
"""A file that has grown so large is ended, and the next begun."""
_SUFFIX: Final = ".jsonl"
_REFUSED: Final = ".refused"
_COMPLAIN_S: Final = 60.0

_log = logging.getLogger(__name__)


class Journal:
    """Appends records. To be used on one thread.

    Files are called `<name>-<random>-<number>.jsonl`.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        most_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Prepares to write.

        Args:
            folder: of this process and others; is made.
            name: begins the names of files: the service's.
            most_bytes: of all files in the folder; 0 is no limit. What comes beyond is only logged.
            segment_bytes: of one file.

        Raises:
            OSError: the folder can't be made.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.stirred: Callable[[], None] = lambda: None
        """Is called when a record was written."""
        self._name = f"{name}-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._most_bytes = most_bytes
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._size = 0
        self._held = 0
        self._failed = False
        self._complained = float("-inf")
        self.measure()

    @property
    def held_bytes(self) -> int:
        """Records that wait, of all processes that write to the folder, when it was last looked."""
        return self._held

    @property
    def full(self) -> bool:
        """Whether no request should begin that needs a record: there is room only for those that
        run, or the disk failed a moment ago."""
        left = self._most_bytes - self._held
        tight = self._most_bytes > 0 and left <= self._most_bytes // 16
        return self._failed or tight

    def append(self, record: Record) -> None:
        """Writes a record down. When this returns, no crash of this process can lose it.

        Where it can't be written, the record is logged instead, whole: a log can be read back, and
        the caller's answer is worth more than a line of the books.
        """
        line = to_line(record)
        if 0 < self._most_bytes < self._held + len(line):
            self.measure()  # others delete here too
            if self._most_bytes < self._held + len(line):
                self._lost(line, f"{self.folder} holds {self._held} bytes, as many as it may")
                return
        try:
            self._write(line)
        except OSError as error:
            self._failed = True
            self._lost(line, f"{self.folder} can't be written: {error.strerror}")
            return
        self._failed = False
        self.stirred()

    def rotate(self) -> bool:
        """Ends the file that is being written, so that it can be sent; False where there is
        none."""
        if self._file is None:
            return False
        os.close(self._file)
        self._file = None
        return True

    def measure(self) -> None:
        """Counts anew how much the folder holds, and takes the disk for a good one again."""
        self._held = 0
        self._failed = False
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    self._held += entry.stat().st_size

    def _write(self, line: bytes) -> None:
        if self._file is not None and (
            self._size >= self._segment_bytes or os.fstat(self._file).st_nlink == 0
        ):
            self.rotate()
        file = self._file = self._begun() if self._file is None else self._file
        written = 0
        try:
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError:
            # What there is of the record is torn, and has to be the last of its file.
            with suppress(OSError):
                os.ftruncate(file, self._size)
            self.rotate()
            raise
        self._size += written
        self._held += written

    def _begun(self) -> int:
        """Makes and locks a file."""
        while True:
            path = self.folder / f"{self._name}-{next(self._numbers):08d}{_SUFFIX}"
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            # Between making and locking it, another may have taken it for one that was left behind.
            if _locked(file) and os.fstat(file).st_nlink:
                self._size = 0
                return file
            os.close(file)

    def _lost(self, line: bytes, why: str) -> None:
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN_S:
            self._complained = now
            _log.error(
                "usage can't be kept: %s. Make room, or see why ModelService does not take it. "
                "Requests are served on; their records are logged.",
                why,
            )
        _log.error("usage not kept: %s", line.decode().rstrip())


def segments(folder: Path) -> list[Path]:
    """The files of a folder, those of the living too, oldest first by name."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


class Segment(NamedTuple):
    """What a file holds."""

    records: list[Record]
    broken: list[bytes]
    """Lines that are no records, as only a broken disk leaves them."""


@contextmanager
def taken(path: Path) -> Generator[Segment | None]:
    """Takes a file whose writer has ended it or died. A torn last line is left out.

    Gives None where it is being written, where another sends it, and where it is gone.
    """
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        if not (_locked(file) and os.fstat(file).st_nlink):
            yield None
            return
        yield _segment(path, _content(file))
    finally:
        os.close(file)


def discard(path: Path) -> None:
    """Deletes a file that was taken."""
    path.unlink(missing_ok=True)


def set_aside(path: Path, line: bytes) -> None:
    """Keeps a line that the ledger can't take, beside its file."""
    with path.with_suffix(_REFUSED).open("ab") as file:
        file.write(line + b"\n")


def _segment(path: Path, data: bytes) -> Segment:
    *lines, torn = data.split(b"\n")
    if torn:
        # Its request was never told of its end.
        _log.info("%s ends in the middle of a record, which was not finished", path.name)
    segment = Segment([], [])
    for line in lines:
        record = from_line(line)
        if record is None:
            segment.broken.append(line)
        else:
            segment.records.append(record)
    return segment


def _content(file: int) -> bytes:
    with open(file, "rb", closefd=False) as reader:
        return reader.read()


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
