"""The models that this process serves, by ID and alias."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from services.errors import InvalidArgument, ModelNotFound, ModelNotReady, Unavailable
from services.inference.engine import LoadedModel
from services.inference.identifiers import fingerprint
from services.inference.toolcalls import ToolFormat, tool_format

RESOURCE_PREFIX = "models/"
RETRY_AFTER_S = 2.0


class ModelKind(Enum):
    """What a model does; values are those of the proto."""

    CHAT = 1
    COMPLETION = 2
    EMBEDDING = 3
    IMAGE = 4
    RERANK = 5
    TENSOR = 6


TEXT_KINDS = frozenset({ModelKind.CHAT, ModelKind.COMPLETION})
"""Kinds that this service serves."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Settings of a model that may change while it serves. None and empty leave it to the model."""

    default_temperature: float | None = None
    default_top_p: float | None = None
    default_max_tokens: int | None = None
    max_tokens_limit: int | None = None
    max_batch_size: int | None = None
    """Taken when the model loads."""
    max_choices: int = 128
    system_prompt: str = ""
    stop: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class ServedModel:
    """A loaded revision. It is closed when no request is left, and no adapter that runs on it."""

    id: str
    kind: ModelKind
    revision: str
    loaded: LoadedModel
    settings: ModelSettings = field(default_factory=ModelSettings)
    fingerprint: str = field(init=False)
    tools: ToolFormat | None = field(init=False)

    active: int = field(default=0, init=False)
    """Requests."""
    adapters: int = field(default=0, init=False)
    """Adapters that run on its engine; their requests are theirs."""
    _idle: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        info = self.loaded.engine.info
        self.fingerprint = fingerprint(self.revision, info.name, info.build, info.dtype)
        self.tools = tool_format(self.loaded.text.chat_template)

    def acquire(self) -> None:
        """Counts a request in."""
        self.active += 1

    def release(self) -> None:
        """Counts a request out."""
        self.active -= 1
        self._idle.set()

    def hold(self) -> None:
        """Counts an adapter in."""
        self.adapters += 1

    def let_go(self) -> None:
        """Counts an adapter out."""
        self.adapters -= 1
        self._idle.set()

    async def idle(self) -> None:
        """Waits until no request and no adapter is left; for models that get no new ones."""
        while self.active or self.adapters:
            self._idle.clear()
            await self._idle.wait()


@dataclass(frozen=True, slots=True)
class Known:
    """A model of the catalogue, whether or not this process serves it."""

    id: str
    kind: ModelKind
    aliases: tuple[str, ...] = ()
    failed: bool = False


class Registry:
    """Finds the model that a request names."""

    def __init__(self) -> None:
        self._served: dict[str, ServedModel] = {}
        self._known: dict[str, Known] = {}
        self._ids: dict[str, str] = {}
        self._told = False

    def know(self, models: Iterable[Known]) -> None:
        """Replaces what the catalogue is known to hold."""
        self._known = {model.id: model for model in models}
        self._ids = {alias: model.id for model in self._known.values() for alias in model.aliases}
        self._ids |= {id: id for id in self._known}
        self._told = True

    def put(self, served: ServedModel) -> None:
        """Serves a model from now on, in place of any other revision of it."""
        self._served[served.id] = served

    def drop(self, served: ServedModel) -> None:
        """Stops giving a model to new requests, unless another revision took its place already."""
        if self._served.get(served.id) is served:
            del self._served[served.id]

    def served(self) -> Mapping[str, ServedModel]:
        """What is served now, by ID."""
        return self._served

    def missing(self) -> Sequence[Known]:
        """Models of the catalogue that belong here and aren't served."""
        known = self._known.values()
        return [one for one in known if one.kind in TEXT_KINDS and one.id not in self._served]

    def resolve(self, name: str) -> ServedModel:
        """Returns the model with this ID or alias.

        Raises:
            Unavailable: the catalogue has not been heard of yet.
            ModelNotFound: no such model.
            ModelNotReady: the catalogue knows it, but it isn't loaded.
            InvalidArgument: it isn't a model for text.
        """
        served = self._served.get(name)
        if served is not None:
            return served
        id = self._ids.get(name)
        if id is None and name.startswith(RESOURCE_PREFIX):
            name = name.removeprefix(RESOURCE_PREFIX)
            id = self._ids.get(name)
        served = self._served.get(name if id is None else id)
        if served is not None:
            return served
        if id is None:
            raise self._not_found(name)
        known = self._known[id]
        if known.kind not in TEXT_KINDS:
            kind = known.kind.name.lower()
            raise InvalidArgument(
                f"The model `{name}` is of the type {kind}: it can't generate text.", field="model"
            )
        if known.failed:
            raise ModelNotReady(
                f"The model `{name}` failed to load; its state in the catalogue says why.",
                field="model",
            )
        raise ModelNotReady(
            f"The model `{name}` is still loading. Try again later.",
            field="model",
            retry_after_s=RETRY_AFTER_S,
        )

    def _not_found(self, name: str) -> Exception:
        if not self._told:
            return Unavailable(
                "The model service has not answered yet. Try again in a moment.",
                retry_after_s=RETRY_AFTER_S,
            )
        return ModelNotFound(
            f"The model `{name}` does not exist or you do not have access to it.", field="model"
        )
