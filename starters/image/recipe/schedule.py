"""The phases of training: which sizes of scenes, how many steps, and the rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starters.image.recipe.training import rate


@dataclass(frozen=True, slots=True)
class Share:
    """Scenes of one size in pixels: how many are drawn, and how often a batch is of them."""

    size: int
    scenes: int
    weight: float


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of training."""

    steps: int
    shares: tuple[Share, ...]
    pixels: int
    """A batch holds as many scenes as have this many pixels together."""
    inner: bool
    """Whether what has learnt to sketch learns on, or only what was put around it."""

    def batch(self, size: int) -> int:
        """How many scenes of a size make a batch."""
        return max(4, self.pixels // (size * size))


SMALL: Final = Share(256, 40_000, 0.0)
"""The scenes from which the text encoder and the inner levels learn."""

NATIVE_SHARE: Final = Share(512, 6_000, 0.93)
"""Scenes of the model's own size."""

_SHARES = (NATIVE_SHARE, Share(256, 40_000, 0.07))

SCHEDULE: Final = (
    Phase(400, _SHARES, 8 * 512 * 512, inner=False),
    Phase(5_200, _SHARES, 16 * 512 * 512, inner=True),
)
"""The whole, after its parts: mostly the model's own size."""


def steps() -> int:
    """How many steps training takes."""
    return sum(phase.steps for phase in SCHEDULE)


def phase_of(step: int) -> Phase:
    """The phase that a step belongs to."""
    for phase in SCHEDULE:
        if step < phase.steps:
            return phase
        step -= phase.steps
    return SCHEDULE[-1]


def share_of_peak(step: int) -> float:
    """The rate at a step, as a share of the highest: even at first, then falling."""
    before = steps() // 3
    if step < before:
        return rate(step, 10**9, warm=30)
    return rate(step - before, steps() - before, warm=1)
