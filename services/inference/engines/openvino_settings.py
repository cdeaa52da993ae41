"""Settings of the OpenVINO engine. Apart from it, so that reading settings needs no OpenVINO."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OpenVinoSettings:
    """How the OpenVINO engine runs models."""

    cache: Path
    """Folder of converted models."""
    cached_models: int = 8
    """Converted models that are kept; those used longest ago go first."""
    max_batch_size: int = 16
    """Sequences that run at once."""
    queue_limit: int = 128
    """Sequences that may wait."""
    max_context: int = 4096
    """Most tokens of prompt and output together, where the weights hold more and the model's own
    specification says nothing. 0 takes what the weights hold."""
    device: str = "auto"
    """`auto` or `cpu`: this engine runs on processors."""
    dtype: str = "auto"
    """`auto` (bfloat16 where the processor is made for it, else float32), `float32`, `bfloat16` or
    `float16`; of activations and attention memory. Processors without AVX-512 compute in float32
    all the same, from weights of 16 bits. A model's own specification goes before it."""
    threads: int = 0
    """Threads of a forward pass. 0 leaves OpenVINO's default."""
    step_tokens: int = 512
    """Tokens computed in one step: one of each running stream, the rest for prompts."""
    kv_cache_bytes: int = 0
    """Attention memory, what is kept for reuse included. 0 takes as much as `max_batch_size` whole
    contexts, but at most half of the free memory."""
    prefix_caching: bool = True
    """Whether attention state is shared between sequences with equal beginnings."""
