"""Reads and writes the files between the service and a worker; see `services.training.folder`.

Whoever writes may be killed between any two bytes, and whoever reads may look at any moment.
"""

import fcntl
import os
import socket
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from services.training.folder import Chosen, Ended, Order, Plan, Record, Saved, Started

READ_BYTES: Final = 1024 * 1024
"""How much of a journal `read_records` takes in at most, rounded up to a whole line."""
_LOCK_TRIES: Final = 20
_LOCK_PAUSE_S: Final = 0.1
_SYNCED: Final = (Started, Chosen, Saved, Ended)
"""Records that must not be lost by a machine that loses its power."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class Journal:
    """Appends records: the worker's side. One process at a time, the one that has the lock.

    What a killed writer left of a last line is cut off when the journal is opened.

    Raises:
        OSError: it can't be written; what there is of the record is taken back.
    """

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = _whole_lines_end(self._file)
        os.ftruncate(self._file, self._end)
        if new:
            sync_folder(path.parent)

    def write(self, record: Record) -> None:
        """Appends a record; those that tell of something lasting are synced to the disk."""
        line = _encoder.encode(record) + b"\n"
        position = self._end
        try:
            while line:
                written = os.pwrite(self._file, line, position)
                position += written
                line = line[written:]
            if isinstance(record, _SYNCED):
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end = position

    def close(self) -> None:
        """Syncs and closes the file."""
        os.fsync(self._file)
        os.close(self._file)


def read_records(
    path: Path, offset: int, *, limit: int = READ_BYTES
) -> tuple[Sequence[Record], int]:
    """Reads the records that begin at an offset: the service's side.

    A torn last line is left for the next time. Records of unknown kinds, as a newer worker may
    write, and lines that are no records are skipped. Where a machine that lost its power has
    forgotten what lay before the offset, reading goes on from the last line before it.

    Returns:
        The records, and where the next ones will begin: mostly the offset given, where there are
        none yet.
    """
    entries, offset = read_entries(path, offset, limit=limit)
    return [record for record, _ in entries], offset


def read_entries(
    path: Path, offset: int, *, limit: int = READ_BYTES
) -> tuple[Sequence[tuple[Record, int]], int]:
    """Does what `read_records` does, and tells of each record where the next one begins."""
    try:
        with path.open("rb") as file:
            offset = _whole_lines_end(file.fileno(), offset)
            file.seek(offset)
            data = file.read(limit)
            while data and b"\n" not in data and (more := file.read(limit)):
                data += more
    except FileNotFoundError:
        return [], offset
    entries: list[tuple[Record, int]] = []
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        offset += len(line)
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            entries.append((_decoder.decode(line), offset))
    return entries, offset


def write_plan(path: Path, plan: Plan) -> None:
    """Writes `plan.json`, whole or not at all."""
    write_whole(path, _encoder.encode(plan))


def read_plan(path: Path) -> Plan:
    """Reads `plan.json`.

    Raises:
        FileNotFoundError: it isn't written yet.
        msgspec.DecodeError: it is no plan.
    """
    return msgspec.json.decode(path.read_bytes(), type=Plan)


class _OrderFile(msgspec.Struct, frozen=True):
    order: Order


def write_order(path: Path, order: Order) -> None:
    """Writes `order.json`, whole or not at all."""
    write_whole(path, _encoder.encode(_OrderFile(order)))


def read_order(path: Path) -> Order:
    """Reads `order.json`; to run, where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_OrderFile).order
    except (OSError, msgspec.DecodeError):
        return Order.RUN


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a file: after a crash at any moment it has the old content or the new."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Syncs a folder's entries: files created, renamed and removed in it."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Holder(msgspec.Struct, frozen=True):
    """The process that has a worker's lock, as it wrote itself into the file."""

    pid: int
    start: int
    """When the process began, as `process_start` tells: tells it from a later one of its ID."""
    attempt: int
    host: str
    """Name of its machine."""

    def is_running(self) -> bool:
        """Whether that very process is there, on this machine."""
        return self.host == socket.gethostname() and process_start(self.pid) == self.start


@contextmanager
def worker_lock(path: Path, attempt: int) -> Generator[bool]:
    """Takes the worker's lock for as long as the context lasts, and writes the process into it.

    The kernel lets go of it when the process dies, however it dies. Gives False where another
    process has it; a moment's look by `is_locked` is waited out.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _locked(file, tries=_LOCK_TRIES):
            yield False
            return
        pid = os.getpid()
        myself = Holder(pid, process_start(pid) or 0, attempt, socket.gethostname())
        # One write over whatever was there: short and padded, so that no reader sees half of it.
        os.pwrite(file, _encoder.encode(myself).ljust(512), 0)
        yield True
    finally:
        os.close(file)


def is_locked(path: Path) -> bool:
    """Tells whether a worker that lives has the lock."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locked(file, tries=1)
    finally:
        os.close(file)


def holder(path: Path) -> Holder | None:
    """The process that has the lock; None where none has it, or it hasn't written itself yet.

    Ask `Holder.is_running` before sending it a signal: what the file holds may be of the one
    before.
    """
    if not is_locked(path):
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def process_start(pid: int) -> int | None:
    """When a process of this machine began, in the kernel's ticks since boot; None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def beat(path: Path) -> None:
    """Shows that the worker lives. Needs no room on the disk once the file is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        path.touch()


def last_beat(path: Path) -> float | None:
    """When the worker last showed that it lives, in seconds since 1970; None: never.

    By the clock of whoever keeps the files: compare it with what it was before, not with the time.
    """
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _locked(file: int, *, tries: int) -> bool:
    """Tries to take the lock."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return False


def _whole_lines_end(file: int, before: int | None = None) -> int:
    """Where the last whole line of a file ends, or of that part of it before a place."""
    end = os.fstat(file).st_size
    if before is not None:
        end = min(end, before)
    while end:
        start = max(0, end - 4096)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
