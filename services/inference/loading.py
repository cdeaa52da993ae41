"""Loads models: finds the folder that a source names, and the engine that is to run it."""

import asyncio
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.errors import FailedPrecondition, Unavailable
from services.inference.catalogue import WantedModel
from services.inference.engine import EngineLoader, LoadedModel, ModelSpec

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt"]
"""What is fetched: weights without code, and their descriptions."""
_WHOLE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class Loading:
    """A `ModelLoader` over the engines of this process, by name."""

    def __init__(self, engines: Mapping[str, Callable[[], EngineLoader]], default: str) -> None:
        self._makers = engines
        self._made: dict[str, EngineLoader] = {}
        self._default = default

    async def load(self, wanted: WantedModel, progress: Callable[[float], None]) -> LoadedModel:
        """Loads with the engine that the model's revision names, or else the default."""
        key = wanted.load
        name = key.engine or self._default
        loader = await asyncio.to_thread(self._loader, name)  # may import for seconds
        source = Path(key.source) if name == "echo" else await resolve_source(key.source)
        spec = ModelSpec(
            model=wanted.id,
            revision=key.revision,
            source=source,
            context_length=key.context_length,
            dtype=key.dtype,
            max_batch_size=wanted.settings.max_batch_size or 0,
        )
        return await loader.load(spec, progress)

    async def adapter(self, wanted: WantedModel) -> Path | None:
        """The folder of an adapter: one that holds PEFT's description and no whole weights."""
        key = wanted.load
        if not key.base:
            return None
        if (key.engine or self._default) == "echo":
            folder = await asyncio.to_thread(_folder, key.source)
        else:
            folder = await resolve_source(key.source)
        if folder is None or not await asyncio.to_thread(_is_adapter, folder):
            return None
        return folder

    def _loader(self, name: str) -> EngineLoader:
        if name not in self._makers:
            known = ", ".join(sorted(self._makers))
            raise FailedPrecondition(f"There is no engine '{name}' here; there is {known}.")
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]


async def resolve_source(source: str) -> Path:
    """Returns the folder of a source: a path, or the ID of a model on the Hugging Face Hub.

    Raises:
        FailedPrecondition: it is neither, or the Hub has no such model.
        Unavailable: the Hub can't be reached.
    """
    folder = await asyncio.to_thread(_folder, source)
    if folder is not None:
        return folder
    if not _HUB_ID.fullmatch(source):
        raise FailedPrecondition("The model's folder does not exist on the serving machine.")
    return await asyncio.to_thread(_fetch, source)


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() and not any(
        (folder / name).is_file() for name in _WHOLE_WEIGHTS
    )


def _folder(source: str) -> Path | None:
    folder = Path(source).expanduser()
    return folder if folder.is_dir() else None


def _fetch(model: str) -> Path:
    """Fetches a model into the Hub's cache on this machine, or finds it there."""
    hub: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    try:
        return Path(hub.snapshot_download(model, allow_patterns=_HUB_FILES))
    except (errors.RepositoryNotFoundError, errors.GatedRepoError):
        raise FailedPrecondition(
            f"The Hugging Face Hub has no model '{model}' that this machine may read."
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError):
        raise Unavailable(
            f"'{model}' is no folder here, and the Hugging Face Hub can't be reached. "
            "Copy the model to a folder and deploy that."
        ) from None
