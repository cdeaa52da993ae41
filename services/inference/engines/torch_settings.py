"""Settings of the torch engine. Apart from it, so that reading settings needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TorchSettings:
    """How the torch engine runs models."""

    max_batch_size: int = 16
    """Sequences that run at once."""
    queue_limit: int = 128
    """Sequences that may wait."""
    max_context: int = 4096
    """Most tokens of prompt and output together, where the weights hold more and the model's own
    specification says nothing. 0 takes what the weights hold."""
    device: str = "auto"
    """`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`."""
    dtype: str = "auto"
    """`auto` (bfloat16 where the processor is made for it, else float32), `float32`, `bfloat16`,
    `float16`, or with the layers' matrices in eight bits `int8` (on processors; all else as `auto`)
    or `fp8` (for GPUs; all else in bfloat16). A model's own specification goes before it."""
    decoder: str = "auto"
    """`auto` (the compact decoder for the architectures it knows) or `transformers` (its own code
    for all)."""
    cuda_graphs: bool = True
    """Records the compact decoder's decode steps as CUDA graphs. Without a GPU it changes nothing.
    """
    torch_threads: int = 0
    """Threads of one CPU operation, for the whole process. 0 leaves torch's default."""
    step_tokens: int = 512
    """Tokens computed in one step: one of each running stream, the rest for prompts (at least 16),
    padding included. Less keeps running streams smoother while long prompts arrive; more reads
    prompts faster."""
    speculative_tokens: int = 0
    """Most tokens of a stream that are guessed in a step from what it held before, and checked
    together; 0 is off. Answers stay what they are."""
    kv_cache_bytes: int = 0
    """Attention memory, what is kept for reuse included. 0 takes as much as `max_batch_size` whole
    contexts, but at most half of the free memory (nine tenths on a GPU)."""
    max_adapters: int = 16
    """LoRA adapters that a model serves beside itself. 0: none."""
    max_adapter_rank: int = 256
    """Largest rank of an adapter."""
