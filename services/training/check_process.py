"""Has files of examples checked, each by a process of its own: whatever a file does to that, the
service goes on."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from services.training.examples import Checked, Format, Method
from services.training.trainers.environment import child_environment

_MODULE: Final = "services.training.examples.check"
_POLL_S: Final = 0.05


class CheckFailed(Exception):  # noqa: N818 (reads as what happened)
    """A check broke off: nothing is known of the file."""


async def checked(path: Path, method: Method, format: Format | None, timeout_s: float) -> Checked:
    """Has a file checked; with a format, that is the only one that is good. Cancelling ends the
    process.

    Raises:
        CheckFailed: the process broke off, or took too long.
    """
    command = [sys.executable, "-m", _MODULE, str(path), "--method", method.value]
    if format is not None:
        command += ["--format", format.value]
    stop = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(_run, command, stop, timeout_s))
    try:
        output = await asyncio.shield(running)
    finally:
        stop.set()
        await asyncio.wait([running])
    try:
        return msgspec.json.decode(output, type=Checked)
    except msgspec.DecodeError as error:
        raise CheckFailed("it did not say what it found") from error


def _run(command: list[str], stop: threading.Event, timeout_s: float) -> bytes:
    """Runs a process to its end, or until told to stop."""
    end = time.monotonic() + timeout_s
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
    ) as process:
        while True:
            try:
                output, told = process.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                if stop.is_set() or time.monotonic() > end:
                    process.kill()
                    process.communicate()
                    raise CheckFailed("it took too long") from None
    if process.returncode:
        raise CheckFailed(f"it ended with {process.returncode}: {told.decode(errors='replace')}")
    return output
