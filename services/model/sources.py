"""Where weights may come from."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from services.errors import InvalidArgument

FINE_TUNED = "ft:"
"""What the IDs of fine-tuned models and their checkpoints begin with."""
TRITON = "triton"
"""The source of models that are in the repository of Triton Inference Server."""


class SourcePolicy:
    """Decides which folders a deploy call may name.

    With roots, a source is a folder at or below one of them, links followed; relative paths count
    from the roots. Without roots, any absolute path of a folder will do. Models of the
    configuration file are not asked: who writes that file may name any folder.

    The ID of a fine-tuned model, or of a checkpoint, is a source too, whatever the roots:
    TrainingService puts a link for each into `models` in its folder, named as the ID is quoted in
    URLs. What a link leads to has to be in that folder.

    `triton` is a source whatever the roots, too: no folder is read then, but Triton's repository.
    """

    def __init__(self, roots: Sequence[Path] = (), *, training: Path | None = None) -> None:
        """Takes the roots, and the folder of training jobs."""
        self._roots = tuple(root.expanduser().resolve() for root in roots)
        self._training = None if training is None else training.expanduser().absolute()

    async def check(self, source: str) -> str:
        """Returns the folder's real path, or raises `InvalidArgument`."""
        return await asyncio.to_thread(self._check, source)

    def _check(self, source: str) -> str:
        if "\0" in source or "://" in source:
            raise _refused("is not a folder: give the path of one")
        if source.startswith(FINE_TUNED):
            return self._fine_tuned(source)
        if source == TRITON:
            return source
        path = Path(source)
        if path.is_absolute():
            candidates = [path]
        elif self._roots:
            candidates = [root / path for root in self._roots]
        else:
            raise _refused("must be an absolute path: this server fetches nothing by a name")
        for candidate in candidates:
            real = _real(candidate)
            # Folders outside are refused in the words for missing ones: nobody probes the disk.
            if real is not None and self._allows(real):
                return str(real)
        where = " among the folders that models may come from" if self._roots else ""
        raise _refused(f"is not an existing folder{where}")

    def _fine_tuned(self, model_id: str) -> str:
        if self._training is not None:
            root = _real(self._training)
            real = _real(self._training / "models" / quote(model_id, safe=""))
            if root is not None and real is not None and real.is_relative_to(root):
                return str(real)
        raise _refused(
            "names no fine-tuned model or checkpoint whose weights are here: they may have been "
            "removed"
        )

    def _allows(self, path: Path) -> bool:
        return not self._roots or any(path.is_relative_to(root) for root in self._roots)


def _real(path: Path) -> Path | None:
    """Returns where a folder really is; None where there is none."""
    try:
        real = path.resolve(strict=True)
        return real if real.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _refused(why: str) -> InvalidArgument:
    return InvalidArgument(f"The source {why}.", field="source")
