"""The models that this process serves."""

import contextlib
import hashlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from services.errors import DomainError, InvalidArgument, ModelNotFound, ModelNotReady, Unavailable
from services.image.batching import Batcher
from services.image.checkpoints import Checkpoint, checkpoint
from services.image.defaults import Options
from services.image.engine import ImageModel, ImageModelInfo
from services.image.pictures.writing import writers
from services.serving import registry
from services.serving.models import ModelKind, Served

KINDS = frozenset({ModelKind.IMAGE})
"""Kinds that this service serves."""
DEFAULT = "default-image"
"""Alias of the model that draws where neither request nor options name one."""


@runtime_checkable
class MayBeLost(Protocol):
    """A model that runs elsewhere, and may be gone there."""

    async def lost(self) -> DomainError:
        """Waits until it is gone for good; returns why. It is then to be loaded anew."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An engine and the queue before it."""

    model: ImageModel
    batcher: Batcher
    budget: Callable[[], int]
    """Bytes that drawings may take now."""

    async def probe(self) -> None:
        """Draws one real step."""
        await self.model.probe()

    async def close(self) -> None:
        """Fails what waits and runs, and frees the device."""
        try:
            await self.batcher.close()
        finally:
            await self.model.close()


@dataclass(frozen=True, slots=True)
class DistantModel(LoadedModel):
    """One whose engine runs elsewhere, where it may be lost."""

    distant: MayBeLost
    """The engine."""

    async def lost(self) -> DomainError:
        """Waits until it is gone there; returns why."""
        return await self.distant.lost()


@dataclass(eq=False, slots=True)
class ServedModel(Served[LoadedModel]):
    """A loaded revision, and what its answers say of it."""

    version: str = ""
    """Of this software: it writes the files."""
    fingerprint: str = field(init=False)
    """Of all that decides the bytes of an image beside its request."""

    def __post_init__(self) -> None:
        info = self.info
        parts = (self.revision, info.name, info.build, info.dtype, self.version, writers())
        self.fingerprint = "fp_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]

    @property
    def info(self) -> ImageModelInfo:
        """What its engine is."""
        return self.loaded.model.info

    @property
    def checkpoint(self) -> Checkpoint:
        """Its weights, as WebUI clients know them."""
        return checkpoint(self.id, self.info)

    @contextlib.contextmanager
    def serving(self) -> Generator[Batcher]:
        """Counts a call in, and out."""
        batcher = self.loaded.batcher
        batcher.most_images = self.settings.max_batch_size or 0  # may change while it serves
        self.acquire()
        try:
            yield batcher
        finally:
            self.release()


class Registry(registry.Registry[ServedModel]):
    """Finds the model that a request names."""

    def __init__(self) -> None:
        super().__init__(KINDS, "it draws nothing")

    def pick(self, name: str, options: Options) -> ServedModel:
        """Returns the model of a request: the one that it names, else that of the options, else the
        default.

        Raises:
            Unavailable: the catalogue has not been heard of yet.
            ModelNotFound: no such model.
            ModelNotReady: it isn't loaded.
            InvalidArgument: it draws nothing, or the name may mean several.
        """
        if name:
            return self.find(name)
        if options.model:
            try:
                return self.find(options.model)
            except ModelNotFound:
                raise ModelNotFound(
                    f"The options name the model `{options.model}`, which does not exist any more. "
                    f"Name one in the request, or change the options.",
                    field="model",
                ) from None
        if DEFAULT in self._ids or DEFAULT in self.served():
            with contextlib.suppress(ModelNotFound):  # others may be this caller's
                return self.resolve(DEFAULT)
        if visible := self.visible():
            return visible[min(visible)]
        raise self._none()

    def find(self, name: str) -> ServedModel:
        """Returns the model of this ID, alias, title, file name or hash. Raises as `pick` does."""
        try:
            return self.resolve(name)
        except ModelNotFound:
            found = [one for one in self.visible().values() if one.checkpoint.answers_to(name)]
            if not found:
                raise
        if len(found) > 1:
            ids = ", ".join(sorted(f"`{one.id}`" for one in found))
            raise InvalidArgument(
                f"`{name}` may mean several models: {ids}. Take one of these IDs.", field="model"
            )
        return found[0]

    def id_of(self, name: str) -> str:
        """Returns the ID of a model of this service, whether or not it is loaded. Raises as `pick`
        does."""
        try:
            return self.find(name).id
        except ModelNotReady:
            known = self._ids.get(name) or self._ids.get(name.removeprefix("models/"))
            return known or name

    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """All models of this service, by ID."""
        found = {one.id: Checkpoint(one.id, "", one.id, loaded=False) for one in self.missing()}
        return found | {one.id: one.checkpoint for one in self.visible().values()}

    def _none(self) -> Exception:
        if missing := self.missing():
            names = ", ".join(sorted(f"`{known.id}`" for known in missing))
            return ModelNotReady(
                f"No image model is ready: {names} does not serve yet.",
                field="model",
                retry_after_s=registry.RETRY_AFTER_S,
            )
        if not self._told:
            return Unavailable(
                "The model service has not answered yet. Try again in a moment.",
                retry_after_s=registry.RETRY_AFTER_S,
            )
        return ModelNotFound(
            "No image model is deployed: deploy one of the kind image.", field="model"
        )
