"""The phases of training: which sizes of scenes, how many steps, and the rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from starters.image.recipe.curriculum import FINISHING, SHARES
from starters.image.recipe.network import DWELL
from starters.image.recipe.training import rate


@dataclass(frozen=True, slots=True)
class Share:
    """Scenes of one size in pixels: how many are drawn, and how often a batch is of them."""

    size: int
    scenes: int
    weight: float
    kinds: Mapping[str, float] = field(default_factory=lambda: SHARES)
    lesson: str = ""

    @property
    def name(self) -> str:
        """What it is kept and drawn by."""
        return f"{self.lesson}{self.size}"


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of training."""

    steps: int
    shares: tuple[Share, ...]
    pixels: int
    """A batch holds as many scenes as have this many pixels together."""
    inner: bool
    """Whether what has learnt to sketch learns on, or only what was put around it."""
    dwell: float = DWELL

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
    Phase(
        900,
        (Share(512, 3_200, 1.0, FINISHING, "finishing"),),
        16 * 512 * 512,
        inner=True,
        dwell=0.75,
    ),
)
"""The whole, after its parts: mostly the model's own size. Then it is finished on new scenes."""

_FINISHING_PEAK: Final = 0.5


def steps() -> int:
    """How many steps training takes."""
    return sum(phase.steps for phase in SCHEDULE)


def unfinished() -> int:
    """The step at which the last phase begins."""
    return steps() - SCHEDULE[-1].steps


def phase_of(step: int) -> Phase:
    """The phase that a step belongs to."""
    for phase in SCHEDULE:
        if step < phase.steps:
            return phase
        step -= phase.steps
    return SCHEDULE[-1]


def share_of_peak(step: int) -> float:
    """The rate at a step, as a share of the highest: even at first, then falling; the last phase
    begins once more at half of it."""
    whole = unfinished()
    if step >= whole:
        return _FINISHING_PEAK * rate(step - whole, steps() - whole, warm=30)
    before = whole // 3
    if step < before:
        return rate(step, 10**9, warm=30)
    return rate(step - before, whole - before, warm=1)
