"""The models that this process serves: what generation needs to know of each."""

from dataclasses import dataclass, field

from services.inference.engine import LoadedModel
from services.inference.identifiers import fingerprint
from services.inference.toolcalls import ToolFormat, tool_format
from services.serving import registry
from services.serving.models import ModelKind, Served

TEXT_KINDS = frozenset({ModelKind.CHAT, ModelKind.COMPLETION})
"""Kinds that this service serves."""


@dataclass(eq=False, slots=True)
class ServedModel(Served[LoadedModel]):
    """A loaded revision, and what its answers say of it."""

    fingerprint: str = field(init=False)
    tools: ToolFormat | None = field(init=False)

    def __post_init__(self) -> None:
        info = self.loaded.engine.info
        self.fingerprint = fingerprint(self.revision, info.name, info.build, info.dtype)
        self.tools = tool_format(self.loaded.text.chat_template)


class Registry(registry.Registry[ServedModel]):
    """Finds the model that a request names."""

    def __init__(self) -> None:
        super().__init__(TEXT_KINDS, "it can't generate text")
