"""Loads models: finds the folder that a source names, and the engine that is to run it."""

import asyncio
import importlib
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from services.errors import FailedPrecondition, Unavailable
from services.serving.catalogue import WantedModel
from services.serving.models import Served

ECHO = "echo"
"""The engine that needs no model: whatever its source says, it loads."""
TRITON = "triton"
"""The engine that calls Triton Inference Server, which has models of its own."""

Progress = Callable[[float], None]
"""Takes the share of a load that is done, in [0, 1]."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt"]
"""What is fetched: weights without code, and their descriptions."""

E = TypeVar("E")
S = TypeVar("S", bound=Served[Any])


class Loading(Generic[E, S]):
    """A `ModelLoader` over the engines of this process, by name."""

    def __init__(
        self,
        engines: Mapping[str, Callable[[], E]],
        default: str,
        load: Callable[[E, WantedModel, Path, Progress], Awaitable[S]],
        *,
        folderless: Collection[str] = (ECHO,),
    ) -> None:
        """Begins without engines.

        Args:
            engines: makers of engine loaders; each is called in a thread, when it is first needed.
            default: the engine of models that name none.
            load: loads the model in a folder with an engine, off the event loop.
            folderless: engines that look at no folder: any source will do.
        """
        self._makers = engines
        self._made: dict[str, E] = {}
        self._default = default
        self._load = load
        self._folderless = frozenset(folderless)

    async def load(self, wanted: WantedModel, progress: Progress) -> S:
        """Loads with the engine that the model's revision names, or else the default."""
        name = wanted.load.engine or self._default
        engine = await asyncio.to_thread(self._engine, name)  # may import for seconds
        given = wanted.load.source
        source = Path(given) if name in self._folderless else await resolve_source(given)
        return await self._load(engine, wanted, source, progress)

    def _engine(self, name: str) -> E:
        if name not in self._makers:
            known = ", ".join(sorted(self._makers))
            raise FailedPrecondition(f"There is no engine '{name}' here; there is {known}.")
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]


async def local_folder(source: str) -> Path | None:
    """Returns the folder that a source names on this machine, if there is one."""
    return await asyncio.to_thread(_folder, source)


async def resolve_source(source: str) -> Path:
    """Returns the folder of a source: a path, or the ID of a model on the Hugging Face Hub.

    Raises:
        FailedPrecondition: it is neither, or the Hub has no such model.
        Unavailable: the Hub can't be reached.
    """
    folder = await local_folder(source)
    if folder is not None:
        return folder
    if not _HUB_ID.fullmatch(source):
        raise FailedPrecondition("The model's folder does not exist on the serving machine.")
    return await asyncio.to_thread(_fetch, source)


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
