"""A terminal for commands."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Takes the terminal as its own. A fork of this process could crash: gRPC hooks into forks.
# Whoever runs the tests in the background may have had Ctrl-C ignored.
LAUNCH = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, words: list[str], cwd: Path | None = None, **variables: str) -> None:
        self.text = ""
        self._bytes = b""
        self._seen = 0
        self._master, slave = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
        environment |= {"PYTHONPATH": ":".join(filter(None, sys.path)), "TERM": "xterm"}
        environment |= variables
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, "-m", "services.cli", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=cwd,
        )
        os.close(slave)

    @property
    def raw(self) -> bytes:
        """Everything that came so far, with its control sequences."""
        return self._bytes

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def see(self, text: str, within_s: float = 30) -> None:
        """Waits for a text, and forgets what came up to it."""
        deadline = time.monotonic() + within_s
        while text not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in {self.text!r}"
            if select.select([self._master], [], [], left)[0]:
                try:
                    data = os.read(self._master, 65536)
                except OSError:
                    raise AssertionError(f"it ended after {self.text!r}") from None
                self._bytes += data
                whole = self._bytes.decode("utf-8", "replace").replace("\r", "")
                self.text = ESCAPES.sub("", whole)[self._seen :]
        before, _, self.text = self.text.partition(text)
        self._seen += len(before + text)

    def end(self) -> int:
        """Waits for the command's end and returns its exit status."""
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                break
            if not data:
                break
            self._bytes += data
        self.close()
        return self._process.returncode

    def close(self) -> None:
        """Hangs up, and waits for the command; once is enough."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        self._process.wait(30)


def assert_soon(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
