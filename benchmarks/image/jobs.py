"""What contestants draw."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

PROMPTS = (
    "a red circle on a blue background",
    "a green square above a yellow star",
    "three white triangles on black",
    "a sunset over mountains",
    "a large purple circle, top left",
    "a forest under an orange sky",
    "two blue squares on grey",
    "a small pink star on green",
)
CFG_SCALE = 7.0
SAMPLER = "Euler"
"""Has the same class behind it everywhere: one call of the denoiser a step, nothing random."""


@dataclass(frozen=True)
class Job:
    """Images that are asked for at the same time, one by each caller."""

    prompts: Sequence[str]
    seed: int
    """Of the first; the next caller's is one more."""
    side: int
    steps: int
    together: bool = False
    """For who draws without a service: all in one call, as nobody's callers come by themselves."""

    def to_wire(self) -> dict[str, Any]:
        """Returns it as JSON."""
        return asdict(self)


def job(callers: int, number: int, side: int, steps: int, *, together: bool = False) -> Job:
    """Makes the job of one measurement; each has its own seeds."""
    prompts = [PROMPTS[(number + caller) % len(PROMPTS)] for caller in range(callers)]
    return Job(prompts, 1000 * number, side, steps, together)
