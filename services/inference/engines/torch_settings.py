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
    """`auto` (bfloat16 where the processor is made for it, else float32), `float32`, `bfloat16` or
    `float16`. A model's own specification goes before it."""
    torch_threads: int = 0
    """Threads of one CPU operation, for the whole process. 0 leaves torch's default."""
    prefill_tokens: int = 512
    """Prompt tokens computed in one step, padding included. Less keeps running streams smoother
    while long prompts arrive; more reads prompts faster."""
