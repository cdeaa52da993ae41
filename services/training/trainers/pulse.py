"""Whether a worker's heart beats, as seen from another machine."""

import os
import time
from pathlib import Path
from typing import Final

from services.errors import Unavailable

_MOST_SEEN: Final = 1000


class Pulse:
    """Watches the heartbeats of workers. Files are only compared with what they were before: the
    clocks of other machines, and of file servers, may differ from ours."""

    def __init__(self, quiet_s: float) -> None:
        """`quiet_s` is how long a heartbeat must stand still to be taken for a dead worker's."""
        self._quiet_s = quiet_s
        self._seen: dict[Path, tuple[int, float]] = {}

    def beats(self, heartbeat: Path) -> bool:
        """Tells whether a worker may still live. One that is seen for the first time may.

        Raises:
            Unavailable: the file can't be read.
        """
        try:
            # Network file systems answer `stat` from their caches, but `open` asks the server.
            with heartbeat.open("rb") as file:
                beat = os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unavailable("The training folder can't be read; it is tried again.") from error
        now = time.monotonic()
        before = self._seen.get(heartbeat)
        if before is None or before[0] != beat:
            self._seen[heartbeat] = (beat, now)
            if len(self._seen) > _MOST_SEEN:
                self.forget(next(iter(self._seen)))
            return True
        return now - before[1] < self._quiet_s

    def forget(self, heartbeat: Path) -> None:
        """Forgets what was seen of a worker that is gone."""
        self._seen.pop(heartbeat, None)
