"""What requests take when they don't say: one set for all callers, kept over restarts."""

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from services.errors import Unavailable
from services.image.defaults import Options
from services.image.requests import OutputFormat

_log = logging.getLogger(__name__)


class OptionsFile:
    """The options, in memory and in a file. To be used on one event loop."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if there is one; one that is broken is told of and left out."""
        self._path = path
        self._lock = asyncio.Lock()
        self._current = Options()
        try:
            self._current = _parse(path.read_text("utf-8"))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning("%s can't be read and is left out: %s", path, error)

    @property
    def current(self) -> Options:
        """The options as they are now."""
        return self._current

    async def change(self, change: Callable[[Options], Options]) -> Options:
        """Changes the options, and returns the new ones once they are written.

        Raises `Unavailable` where they can't be written; then nothing has changed.
        """
        async with self._lock:
            changed = change(self._current)
            try:
                await asyncio.to_thread(_write, self._path, changed)
            except OSError as error:
                _log.error("%s can't be written: %s", self._path, error)
                raise Unavailable("The options can't be kept: the disk refuses them.") from error
            self._current = changed
            return changed


def _parse(text: str) -> Options:
    found: Any = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    found = cast("dict[str, Any]", found)
    clip_skip, interval = found.get("clip_skip"), found.get("preview_interval_steps")
    format, vae = found.get("output_format"), found.get("vae")
    if clip_skip is not None and not 1 <= int(clip_skip) <= 12:
        raise ValueError(f"clip_skip is {clip_skip}")
    if interval is not None and not 0 <= int(interval) <= 1000:
        raise ValueError(f"preview_interval_steps is {interval}")
    return Options(
        model=str(found.get("model", "")),
        vae=None if vae is None else str(vae),
        clip_skip=None if clip_skip is None else int(clip_skip),
        output_format=None if format is None else OutputFormat[str(format).upper()],
        preview_interval_steps=None if interval is None else int(interval),
    )


def _write(path: Path, options: Options) -> None:
    """Writes the file whole or not at all, also when the machine stops meanwhile."""
    values = asdict(options)
    if options.output_format is not None:
        values["output_format"] = options.output_format.name.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(values, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
