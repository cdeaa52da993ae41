"""Settings of text models on Triton. Apart from the engine, so that reading settings needs no
tritonclient."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TritonTextSettings:
    """How text models run on Triton."""

    max_batch_size: int = 16
    """Sequences of a model that are with Triton at once, for each endpoint."""
    queue_limit: int = 128
    """Sequences that may wait here."""
    max_context: int = 4096
    """Most tokens of prompt and output together, where the model's own specification says nothing
    and the weights hold more. 0 takes what the weights hold."""
