"""Settings of the torch engine. Apart from it, so that reading settings needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TorchSettings:
    """How the torch engine runs encoders."""

    device: str = "auto"
    """`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`."""
    dtype: str = "auto"
    """`auto` (bfloat16 where the processor is made for it, else float32), `float32`, `bfloat16` or
    `float16`. A model's own specification goes before it."""
    encoder: str = "auto"
    """`auto` (the packed encoder for the architectures it knows) or `transformers` (its own code,
    padded, for all)."""
    torch_threads: int = 0
    """Threads of one CPU operation, for the whole process. 0 leaves torch's default."""
    batch_tokens: int = 4096
    """Tokens computed in one forward pass; larger batches take several."""
