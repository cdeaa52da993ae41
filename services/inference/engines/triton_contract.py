"""How text models in Triton are spoken to: a contract for each kind of backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.inference.engine import (
    EndReason,
    EngineCapabilities,
    SamplingParams,
    TokenScore,
)
from services.tritonserver.protocol import ModelConfig
from services.tritonserver.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """What one answer of a stream brings."""

    tokens: Sequence[int]
    scores: Sequence[TokenScore | None]
    """One for each token."""
    end: EndReason | None = None
    """Why the backend says that it is the last, where its tokens don't tell."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What contracts need of a model's tokens."""

    size: int
    eos: frozenset[int]
    """Tokens that end a sequence, unless that is ignored."""


class Contract(Protocol):
    """What a backend takes and gives for one sequence."""

    @property
    def model(self) -> str:
        """Name of the model in Triton that is called."""
        ...

    @property
    def capabilities(self) -> EngineCapabilities:
        """What it honours."""
        ...

    @property
    def shares_prefixes(self) -> bool:
        """Whether it reuses attention state between requests, and can't be told not to."""
        ...

    def prompt(self, prompt: Sequence[int]) -> list[Tensor]:
        """The inputs that hold a prompt.

        Raises:
            InvalidArgument: the backend can't be given this one.
        """
        ...

    def sampling(self, params: SamplingParams, limit: int, adapter: str) -> list[Tensor]:
        """The inputs that say how a sequence of at most `limit` tokens is generated."""
        ...

    def read(self, answer: Mapping[str, Tensor], params: SamplingParams) -> Step:
        """What an answer of its stream says.

        Raises:
            Internal: it is not what the contract says.
        """
        ...


def input_names(config: ModelConfig) -> frozenset[str]:
    """Names of a model's inputs."""
    return frozenset(one.name for one in config.input)


def parameter(config: ModelConfig, name: str) -> str:
    """A parameter of a model's configuration; empty when it has none of that name."""
    return str(config.parameters[name].string_value) if name in config.parameters else ""
