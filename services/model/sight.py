"""What a caller sees of the catalogue: a model that a key may not use does not exist for it."""

from dataclasses import replace

from policy.principals import Principal
from services.model.names import not_found
from services.model.records import Entry, Model
from services.model.watches import Changed, Deleted, Snapshot, WatchEvent


class Sight:
    """The sight of one caller, during one call."""

    def __init__(self, who: Principal) -> None:
        self._who = who
        self._shown: set[str] = set()
        self.is_whole = not who.allowed_models
        """Whether the caller sees every model."""

    def sees(self, entry: Entry) -> bool:
        """Tells whether the caller may use a model, by its ID or an alias."""
        return self._who.may_use(entry.id, *entry.aliases)

    def found(self, model: Model, name: str) -> Model:
        """Returns a model that the caller named. Raises `ModelNotFound` where they don't see it."""
        if not self.sees(model.entry):
            raise not_found(name)
        return model

    def event(self, event: WatchEvent) -> WatchEvent | None:
        """Returns a word of a watch as the caller may hear it; None: not at all."""
        if self.is_whole:
            return event
        match event:
            case Snapshot():
                models = [model for model in event.models if self.sees(model.entry)]
                self._shown = {model.entry.id for model in models}
                return replace(event, models=models)
            case Changed(sequence, model):
                if self.sees(model.entry):
                    self._shown.add(model.entry.id)
                    return event
                return self._gone(Deleted(sequence, model.entry.id))
            case Deleted():
                return self._gone(event)
            case _:
                return event

    def _gone(self, event: Deleted) -> Deleted | None:
        """Of models that were never shown, nobody hears that they are gone."""
        if event.model_id not in self._shown:
            return None
        self._shown.discard(event.model_id)
        return event
