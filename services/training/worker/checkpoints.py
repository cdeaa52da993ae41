"""The folders of checkpoints and of the result: written whole, found, thinned out. No torch.

A checkpoint's weights lie at its top level, as they are served. Beside them lies what a worker
needs to go on, which is taken away when the job has succeeded.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from services.training.folder import COMPLETE, JobFolder
from services.training.journal import sync_folder, write_whole

STATE: Final = "training_state.json"
TENSORS: Final = "training_state.safetensors"
_TRAINER_STATE: Final = "trainer_state.json"
_FOR_RESUMING: Final = (TENSORS, STATE, _TRAINER_STATE)
_SUMMARY: Final = "summary.json"
_RESERVE: Final = "reserve"
_RESERVE_BYTES: Final = 128 * 1024


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has to know to go on from a checkpoint, beside tensors."""

    step: int
    epoch: float
    sums: dict[str, float]
    """What was measured since metrics were last told."""
    metrics: dict[str, float]
    """What was last told."""
    learning_rates: list[float]
    """Of the optimiser's groups of parameters, for the next step."""


class Summary(msgspec.Struct, frozen=True):
    """What came of a training, for a worker that finds the result there already."""

    step: int
    trained_token_count: int


class Checkpoints:
    """The checkpoints of a job."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder

    def clean(self) -> None:
        """Removes what a killed worker left half written."""
        self._folder.checkpoints.mkdir(exist_ok=True)
        for path in self._folder.checkpoints.iterdir():
            if not (path / COMPLETE).is_file():
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(_partial(self._folder.result), ignore_errors=True)

    def steps(self) -> Sequence[int]:
        """Steps of the whole checkpoints, oldest first."""
        names = (path.parent.name for path in self._folder.checkpoints.glob(f"step-*/{COMPLETE}"))
        numbers = (name.removeprefix("step-") for name in names)
        return sorted(int(number) for number in numbers if number.isdecimal())

    def resumable(self) -> int | None:
        """Step of the newest checkpoint from which a worker can go on."""
        steps = (step for step in reversed(self.steps()) if (self.path(step) / STATE).is_file())
        return next(steps, None)

    def path(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self._folder.checkpoint(step)

    def write(self, step: int, write: Callable[[Path], None]) -> int:
        """Writes a checkpoint and returns the length of its files."""
        path = self.path(step)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        write(path)
        sync_tree(path)
        write_whole(path / COMPLETE, b"")
        sync_folder(path.parent)
        return self.size_bytes(step)

    def size_bytes(self, step: int) -> int:
        """Length of a checkpoint's files."""
        return sum(file.stat().st_size for file in self.path(step).rglob("*") if file.is_file())

    def drop(self, step: int) -> None:
        """Removes a checkpoint."""
        path = self.path(step)
        (path / COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)

    def strip(self) -> None:
        """Takes what workers need away from all checkpoints; what is served stays."""
        for step in self.steps():
            for name in _FOR_RESUMING:
                (self.path(step) / name).unlink(missing_ok=True)


def read_state(path: Path) -> State:
    """Reads the state of a checkpoint."""
    return msgspec.json.decode((path / STATE).read_bytes(), type=State)


def write_state(path: Path, state: State) -> None:
    """Writes the state into a checkpoint's folder."""
    (path / STATE).write_bytes(msgspec.json.encode(state))


def write_result(folder: JobFolder, summary: Summary, write: Callable[[Path], None]) -> None:
    """Writes the result, whole or not at all."""
    partial = _partial(folder.result)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    sync_tree(partial)
    write_whole(folder.path / _SUMMARY, msgspec.json.encode(summary))
    partial.replace(folder.result)
    sync_folder(folder.path)


def finished(folder: JobFolder) -> Summary | None:
    """What came of the job, where its result is there."""
    if not folder.result.is_dir():
        return None
    return msgspec.json.decode((folder.path / _SUMMARY).read_bytes(), type=Summary)


def keep_reserve(folder: JobFolder) -> None:
    """Takes some room on the disk, so that a full disk can still be told of."""
    path = folder.path / _RESERVE
    if not path.is_file() or path.stat().st_size < _RESERVE_BYTES:
        with path.open("wb") as file:
            file.write(os.urandom(_RESERVE_BYTES))  # which no file system can make smaller
            file.flush()
            os.fsync(file.fileno())


def free_reserve(folder: JobFolder) -> None:
    """Gives the room back."""
    with suppress(OSError):
        (folder.path / _RESERVE).unlink(missing_ok=True)


def sync_tree(path: Path) -> None:
    """Syncs the files below a folder, and the folders; lets other users read them."""
    for base, _, names in os.walk(path):
        for name in names:
            file = os.open(Path(base, name), os.O_RDONLY)
            try:
                os.fchmod(file, 0o644)  # those who serve models may be others than who train them
                os.fsync(file)
            finally:
                os.close(file)
        sync_folder(Path(base))


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
