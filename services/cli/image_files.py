"""Image files of `penstock image`: those it reads, and where its own go."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as count_up
from pathlib import Path

from services.cli.failures import Failure, UsageFailure

FORMATS = ("png", "jpeg", "webp")
SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
MAX_BYTES = 64 * 1024 * 1024
"""Most that the service takes, over all files of a request."""
STDOUT = "-"
_DEFAULT_STEM = "image"


@dataclass(frozen=True)
class Destination:
    """Where the images of one run go."""

    path: Path | None
    """As it was given. None: a free name in the working directory."""
    format: str
    count: int
    force: bool = False

    @property
    def is_stdout(self) -> bool:
        """Whether the image itself is what the command prints."""
        return self.path == Path(STDOUT)

    def check(self) -> None:
        """Raises UsageFailure for what would fail later, when the work is done."""
        if self.path is None or self.is_stdout:
            return
        folder = self.path.parent
        if not folder.is_dir():
            raise UsageFailure(
                f"The folder {folder} does not exist.", hint=f"`mkdir -p {folder}` makes it."
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageFailure(f"Nothing can be written into the folder {folder}.")
        for path in map(self.path_of, range(self.count)):
            if path.is_dir():
                raise UsageFailure(f"{path} is a folder.", hint="Name a file in it.")
            if path.exists() and not self.force:
                raise UsageFailure(
                    f"{path} exists.", hint="--force overwrites it; -o names another file."
                )

    def path_of(self, index: int) -> Path:
        """Returns the file of one image: with its number, where there are several."""
        if self.path is None:
            return next(_free_names(Path(f"{_DEFAULT_STEM}.{_suffix(self.format)}"), 1))
        if self.count == 1:
            return self.path
        number = f"{index + 1:0{len(str(self.count))}d}"
        return self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")

    def write(self, index: int, data: bytes) -> Path:
        """Writes one image and returns where it is. Raises Failure."""
        if self.is_stdout:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return Path(STDOUT)
        path = self.path_of(index)
        try:
            return _replace(path, data) if self.force and self.path else _create(path, data)
        except OSError as error:
            raise Failure(f"{path} can't be written: {error.strerror}.") from error


def destination(output: str | None, format_: str | None, count: int, *, force: bool) -> Destination:
    """Decides on place and format. Raises UsageFailure when they don't fit."""
    if output is None:
        return Destination(None, format_ or FORMATS[0], count)
    path = Path(output)
    if output == STDOUT:
        if count > 1:
            raise UsageFailure("Only one image fits into standard output.", hint="Name a file.")
        return Destination(path, format_ or FORMATS[0], count)
    suffix = path.suffix.lower()
    meant = SUFFIXES.get(suffix)
    if suffix and meant is None and format_ is None:
        raise UsageFailure(
            f"No images are made in the format of {path.name}.",
            hint=f"There are {', '.join(SUFFIXES)}; --format chooses one for any name.",
        )
    if meant and format_ and meant != format_:
        raise UsageFailure(f"{path.name} would hold {format_.upper()}, which its ending denies.")
    return Destination(path, format_ or meant or FORMATS[0], count, force)


def read_picture(path: Path) -> bytes:
    """Reads a picture to start from, or a mask. Raises UsageFailure when it can't be one."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageFailure(f"{path} is larger than {MAX_BYTES // 1024**2} MiB.")
        data = path.read_bytes()
    except OSError as error:
        raise UsageFailure(f"{path} can't be read: {error.strerror}.") from error
    if not _is_picture(data):
        raise UsageFailure(f"{path} is not a picture.", hint="PNG, JPEG and WebP are understood.")
    return data


def _is_picture(data: bytes) -> bool:
    """Tells by the first bytes; whether the rest is whole is the service's to find out."""
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return is_webp or data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _suffix(format_: str) -> str:
    return next(suffix for suffix, name in SUFFIXES.items() if name == format_).removeprefix(".")


def _free_names(path: Path, start: int) -> Iterator[Path]:
    for number in count_up(start):
        name = path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not name.exists():
            yield name


def _replace(path: Path, data: bytes) -> Path:
    """Writes in one step: who reads the old file never sees half of the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return path


def _create(path: Path, data: bytes) -> Path:
    """Writes a new file; takes the next free name when another one came first."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return _create(next(_free_names(path, 2)), data)
    with file:
        try:
            file.write(data)
            file.flush()
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return path
