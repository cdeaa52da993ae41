"""Puts a model into a repository: whole or not at all."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.errors import AlreadyExists, FailedPrecondition
from services.tritonserver.export.options import ExportOptions

WEIGHTS = "weights"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", ".*", "__pycache__")


@dataclass(frozen=True, slots=True)
class Exported:
    """A model that is to be written."""

    name: str
    files: Mapping[str, str | bytes]
    """Content by path within the model's folder."""
    weights: Path | None = None
    """Folder that goes to `1/weights`, as the options say."""
    moved: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Files that were made elsewhere, by path within the model's folder."""


def weights_parameter(options: ExportOptions) -> str:
    """Where model.py finds the weights, from the version folder on."""
    return WEIGHTS if options.weights in ("copy", "link") else options.weights


def check_free(repository: Path, name: str, options: ExportOptions) -> None:
    """Refuses to replace a model unasked.

    Raises:
        AlreadyExists: one of this name is there, and is not to be overwritten.
    """
    target = repository / name
    if target.exists() and not options.overwrite:
        raise AlreadyExists(
            f"{target} exists already: add --overwrite to replace it, or export under another "
            f"--name.",
            field="name",
        )


def write(repository: Path, models: list[Exported], options: ExportOptions) -> list[Path]:
    """Writes models; returns their folders.

    Raises:
        AlreadyExists: one is there already, and is not to be overwritten.
        FailedPrecondition: the repository can't be written to.
    """
    targets = [repository / model.name for model in models]
    for model in models:
        check_free(repository, model.name, options)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        for model, target in zip(models, targets, strict=True):
            _write_one(repository, model, target, options)
    except OSError as error:
        reason = error.strerror or error  # of a whole folder there may be many
        raise FailedPrecondition(f"{repository} can't be written to: {reason}.") from error
    return targets


def _write_one(repository: Path, model: Exported, target: Path, options: ExportOptions) -> None:
    # Beside the repository's models under a name that Triton does not look at, then in one move.
    made = Path(tempfile.mkdtemp(prefix=f".{model.name}-", dir=repository))
    try:
        made.chmod(0o755)
        for path, content in model.files.items():
            file = made / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        for path, source in model.moved.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, made / path)
        if model.weights is not None:
            _place_weights(model.weights.resolve(), made / "1" / WEIGHTS, options)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{model.name}-old-", dir=repository))
            target.rename(old / model.name)
            made.rename(target)
            shutil.rmtree(old)
        else:
            made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _place_weights(source: Path, target: Path, options: ExportOptions) -> None:
    if options.weights == "copy":
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_PICKLES))
    elif options.weights == "link":
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
