"""Converted models on disk, each made once.

A folder's name says what it was made from: the weights' digest, their stored type, and the
versions that made it. It comes into being by a rename, so it is whole or not there; one that was
damaged later is made anew. Models that were used longest ago go when there are too many.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.errors import FailedPrecondition, Unavailable
from services.weights.folder import ModelFolder
from services.weights.memory import free_bytes, weight_bytes
from services.weights.processor import choose_device

_log = logging.getLogger(__name__)

EXPORTER = ("-m", "services.inference.engines.openvino_process", "export")
REFUSED = 3
"""Exit status of the exporter when the model can't be converted."""
FORMAT = 1
"""Raised when the exporter makes something else of the same weights."""
MANIFEST = "manifest.json"
FACTS = "facts.json"
_PARTIAL = "partial-"
_STALE_S = 24 * 3600.0
"""Age at which what an interrupted conversion left is swept away."""
_COPIES = 3
"""Float32 copies of the weights that live during a conversion: torch's, OpenVINO's, the check's."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted model."""

    folder: Path
    parameter_count: int


class ConvertedModels:
    """The cache."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder.absolute()
        self._keep = keep
        self._busy: dict[str, asyncio.Lock] = {}

    async def get(self, source: ModelFolder, weights: str) -> Converted:
        """The converted form of a folder; makes it if it isn't there.

        Args:
            source: the original.
            weights: type to store, `f32` or `f16`.

        Raises:
            FailedPrecondition: it can't be converted; the message says why.
            Unavailable: converting was interrupted.
        """
        digest = await asyncio.to_thread(source.digest)
        name = f"{digest}-{weights}-{FORMAT}-{version('openvino')}"
        async with self._busy.setdefault(name, asyncio.Lock()):
            found = await asyncio.to_thread(self._find, name)
            if found is None:
                await self._make(source, weights, name)
                found = await asyncio.to_thread(self._find, name)
        if found is None:
            raise Unavailable("The converted model vanished: try again.", retry_after_s=1.0)
        await asyncio.to_thread(self._prune, name)
        return found

    async def discard(self, converted: Converted) -> None:
        """Takes out what turned out to be broken."""
        _log.warning("the converted model %s is broken and made anew", converted.folder.name)
        await asyncio.to_thread(shutil.rmtree, converted.folder, ignore_errors=True)

    def _find(self, name: str) -> Converted | None:
        folder = self._folder / name
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
            sizes: dict[str, int] = manifest["sizes"]
            whole = all((folder / file).stat().st_size == size for file, size in sizes.items())
            count = int(manifest["parameter_count"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            whole, count = False, 0
        if not whole:
            if folder.exists():
                _log.warning("the converted model %s is damaged and made anew", name)
                shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder / MANIFEST)  # when it was used last
        return Converted(folder, count)

    async def _make(self, source: ModelFolder, weights: str, name: str) -> None:
        _check_memory(source)
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._folder))
        try:
            await _run_exporter(source.path.absolute(), partial, weights)
            await asyncio.to_thread(_seal, partial)
            with contextlib.suppress(OSError):  # another process was faster: its work is as good
                await asyncio.to_thread(partial.rename, self._folder / name)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)

    def _prune(self, used: str) -> None:
        """Removes what was used longest ago, and what interrupted conversions left."""
        for folder in self._folder.glob(f"{_PARTIAL}*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > _STALE_S:
                    shutil.rmtree(folder, ignore_errors=True)
        others = sorted(self._others(used), reverse=True)
        for _, folder in others[self._keep - 1 :]:
            # A process that still runs it keeps its open files.
            shutil.rmtree(folder, ignore_errors=True)

    def _others(self, used: str) -> Iterator[tuple[float, Path]]:
        for manifest in self._folder.glob(f"*/{MANIFEST}"):
            if manifest.parent.name != used and not manifest.parent.name.startswith(_PARTIAL):
                with contextlib.suppress(OSError):
                    yield manifest.stat().st_mtime, manifest.parent


def _started(*arguments: str) -> subprocess.Popen[bytes]:
    """Starts an exporter. Not asyncio's way, which forks: a fork may die of gRPC's threads."""
    command = [sys.executable, *EXPORTER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def _run_exporter(source: Path, target: Path, weights: str) -> None:
    process = _started(str(source), str(target), weights)
    try:
        output, log = await asyncio.to_thread(process.communicate)
    except BaseException:
        process.kill()
        await asyncio.to_thread(process.wait)
        raise
    if process.returncode == REFUSED:
        why = output.decode(errors="replace").strip().rpartition("\n")[2]
        raise FailedPrecondition(
            f"The model can't be converted for OpenVINO: {why}. Serve it with the torch engine."
        )
    if process.returncode:
        _log.error("converting a model failed: %s", log.decode(errors="replace")[-4000:])
        raise Unavailable(
            "Converting the model for OpenVINO ended early; the server's log has the details."
        )


def _seal(folder: Path) -> None:
    """Notes what belongs to a whole model."""
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    (folder / MANIFEST).write_text(json.dumps({**facts, "sizes": sizes}))


def _check_memory(source: ModelFolder) -> None:
    needed = _COPIES * weight_bytes(source.weights, 4)
    free = free_bytes(choose_device("cpu"))
    if needed > free:
        raise FailedPrecondition(
            f"Converting the model for OpenVINO takes {needed / 2**30:,.1f} GiB of memory (its "
            f"weights in float32, {_COPIES} times), but {free / 2**30:,.1f} GiB are free: free "
            f"some, or serve it with the torch engine."
        )
