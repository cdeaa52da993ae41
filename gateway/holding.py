"""Pictures of answers that wait for more of them: in memory first, then in files."""

import mmap
from tempfile import TemporaryFile

Held = bytes | memoryview

_MEMORY_BYTES = 16 * 1024 * 1024


class Holder:
    """Holds the parts of one answer, of which a few megabytes stay in memory.

    The others are mapped from files in TMPDIR that have no names: the system may take their pages
    back, and they are gone with the last reference, or with the process.
    """

    def __init__(self, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._room = memory_bytes

    def hold(self, data: bytes) -> Held:
        """Returns the same bytes, kept where there is room for them."""
        if len(data) <= self._room:
            self._room -= len(data)
            return data
        try:
            return _mapped(data)
        except OSError:  # a disk that is full: they are here already
            return data


def _mapped(data: bytes) -> memoryview:
    with TemporaryFile() as file:
        file.write(data)
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
