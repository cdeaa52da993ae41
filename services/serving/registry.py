"""The models that this process serves, by ID and alias."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from services.errors import InvalidArgument, ModelNotFound, ModelNotReady, Unavailable
from services.serving.models import Known, ModelKind, Served

RESOURCE_PREFIX = "models/"
RETRY_AFTER_S = 2.0

S = TypeVar("S", bound=Served[Any])

MayUse = Callable[..., bool]
"""Tells whether who is served now may use a model, by its ID and aliases."""


def _everyone(*_: str) -> bool:
    return True


class Registry(Generic[S]):
    """Finds the model that a request names."""

    def __init__(self, kinds: frozenset[ModelKind], inability: str) -> None:
        """Begins empty.

        Args:
            kinds: what this process serves.
            inability: what is told of models of other kinds, such as "it can't generate text".
        """
        self.kinds = kinds
        self._inability = inability
        self._served: dict[str, S] = {}
        self._known: dict[str, Known] = {}
        self._ids: dict[str, str] = {}
        self._told = False
        self._may_use: MayUse = _everyone

    def restrict(self, may_use: MayUse) -> None:
        """Asks from now on whether who is served may use a model: what they may not use does not
        exist for them."""
        self._may_use = may_use

    def know(self, models: Iterable[Known]) -> None:
        """Replaces what the catalogue is known to hold."""
        self._known = {model.id: model for model in models}
        self._ids = {alias: model.id for model in self._known.values() for alias in model.aliases}
        self._ids |= {id: id for id in self._known}
        self._told = True

    def put(self, served: S) -> None:
        """Serves a model from now on, in place of any other revision of it."""
        self._served[served.id] = served

    def drop(self, served: S) -> None:
        """Stops giving a model to new requests, unless another revision took its place already."""
        if self._served.get(served.id) is served:
            del self._served[served.id]

    def served(self) -> Mapping[str, S]:
        """What is served now, by ID."""
        return self._served

    def visible(self) -> Mapping[str, S]:
        """What is served now and the caller may use, by ID."""
        if self._may_use is _everyone:
            return self._served
        return {id: served for id, served in self._served.items() if self._sees(id)}

    def _sees(self, id: str) -> bool:
        known = self._known.get(id)
        return self._may_use(id, *(known.aliases if known is not None else ()))

    def missing(self) -> Sequence[Known]:
        """Models of the catalogue that belong here, aren't served, and the caller may use."""
        return [one for one in self.absent() if self._sees(one.id)]

    def absent(self) -> Sequence[Known]:
        """Models of the catalogue that belong here and aren't served, whoever may use them."""
        known = self._known.values()
        return [one for one in known if one.kind in self.kinds and one.id not in self._served]

    def resolve(self, name: str) -> S:
        """Returns the model with this ID or alias.

        Raises:
            Unavailable: the catalogue has not been heard of yet.
            ModelNotFound: no such model.
            ModelNotReady: the catalogue knows it, but it isn't loaded.
            InvalidArgument: it is of a kind that isn't served here.
        """
        served = self._served.get(name)
        if served is not None:
            return self._seen(served, name)
        id = self._ids.get(name)
        if id is None and name.startswith(RESOURCE_PREFIX):
            name = name.removeprefix(RESOURCE_PREFIX)
            id = self._ids.get(name)
        served = self._served.get(name if id is None else id)
        if served is not None:
            return self._seen(served, name)
        if id is None or not self._sees(id):
            raise self._not_found(name)
        known = self._known[id]
        if known.kind not in self.kinds:
            kind = known.kind.name.lower()
            raise InvalidArgument(
                f"The model `{name}` is of the type {kind}: {self._inability}.", field="model"
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

    def _seen(self, served: S, name: str) -> S:
        if not self._sees(served.id):
            raise self._not_found(name)
        return served

    def _not_found(self, name: str) -> Exception:
        if not self._told:
            return Unavailable(
                "The model service has not answered yet. Try again in a moment.",
                retry_after_s=RETRY_AFTER_S,
            )
        return ModelNotFound(
            f"The model `{name}` does not exist or you do not have access to it.", field="model"
        )
