"""Settings of the diffusers engine. Apart from it, so that reading settings needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DiffusersSettings:
    """How the diffusers engine runs pipelines."""

    device: str = "auto"
    """`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`."""
    dtype: str = "auto"
    """`auto` (bfloat16 where the processor is made for it, else float32), `float32`, `bfloat16` or
    `float16`. A model's own specification goes before it."""
    batching: str = "exact"
    """`exact` (drawings run together only where each comes out as it would alone, to the byte),
    `any` (together always: faster where the denoiser is small, equal but for rounding) or `off`
    (drawings of different calls never run together; those of one call as with `exact`)."""
    max_batch: int = 8
    """Most drawings that run together."""
    torch_threads: int = 0
    """Threads of one CPU operation, for the whole process. 0 leaves torch's default."""
    compile: bool = False
    """Compiles the denoiser with torch.compile: minutes at the first image of a size, then faster.
    Pays on a GPU."""
