"""Where a program's output goes: a file that doesn't grow for ever, and a tail in memory."""

from collections import deque
from pathlib import Path


class LogFile:
    """Appends lines to a file and keeps the last of them for error messages."""

    def __init__(self, path: Path, *, limit_bytes: int = 16 * 1024 * 1024, tail: int = 30) -> None:
        self.path = path
        self._limit = limit_bytes
        self._tail: deque[str] = deque(maxlen=tail)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    @property
    def tail(self) -> list[str]:
        """The last lines, oldest first."""
        return list(self._tail)

    def forget(self) -> None:
        """Empties the tail, so that the next error shows only what follows."""
        self._tail.clear()

    def write(self, line: str) -> None:
        """Appends one line. A full file becomes `<name>.1` and a new one begins."""
        self._tail.append(line)
        if self._file.tell() >= self._limit:
            self._file.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._file = self.path.open("ab")
        self._file.write(line.encode("utf-8", "replace") + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
