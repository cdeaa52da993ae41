"""The models that this process serves: what answering needs to know of each."""

from dataclasses import dataclass, field

from services.errors import InvalidArgument
from services.inference.engine import LoadedModel
from services.inference.identifiers import fingerprint
from services.inference.tensor_engine import TensorEngine
from services.inference.thoughts import ThoughtFormat, thought_format
from services.inference.toolcalls import ToolFormat, tool_format
from services.serving import registry
from services.serving.models import ModelKind, Served

TEXT_KINDS = frozenset({ModelKind.CHAT, ModelKind.COMPLETION})
"""Kinds that generate text."""

_INABILITY = "it can't generate text"


@dataclass(eq=False, slots=True)
class ServedModel(Served[LoadedModel]):
    """A loaded revision of a text model, and what its answers say of it."""

    fingerprint: str = field(init=False)
    tools: ToolFormat | None = field(init=False)
    thoughts: ThoughtFormat | None = field(init=False)

    def __post_init__(self) -> None:
        info = self.loaded.engine.info
        self.fingerprint = fingerprint(self.revision, info.name, info.build, info.dtype)
        self.tools = tool_format(self.loaded.text.chat_template)
        self.thoughts = thought_format(self.loaded.text.chat_template)


@dataclass(eq=False, slots=True)
class ServedTensors(Served[TensorEngine]):
    """A loaded revision of a tensor model."""

    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        info = self.loaded.info
        self.fingerprint = fingerprint(self.revision, info.name, info.build, info.dtype)


AnyServed = ServedModel | ServedTensors
"""A model of this service."""


class Registry(registry.Registry[AnyServed]):
    """Finds the model that a request names."""

    def __init__(self) -> None:
        super().__init__(TEXT_KINDS | {ModelKind.TENSOR}, _INABILITY)

    def resolve(self, name: str) -> ServedModel:
        """Returns the text model with this ID or alias.

        Raises:
            DomainError: as `find`; InvalidArgument for a tensor model, too.
        """
        served = self.find(name)
        if isinstance(served, ServedTensors):
            raise InvalidArgument(
                f"The model `{name}` is of the type tensor: {_INABILITY}.", field="model"
            )
        return served

    def find(self, name: str) -> AnyServed:
        """Returns the model with this ID or alias, whatever it is.

        Raises:
            DomainError: there is none, or it does not serve.
        """
        return super().resolve(name)
