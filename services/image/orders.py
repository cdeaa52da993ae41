"""A request that was checked and made ready: all that drawing it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from services.image.engine import Drawing, Plan
from services.image.events import FinishedImage, PartialImage
from services.image.requests import ImageRequest, Priority


class Finisher(Protocol):
    """Makes files of pictures. Its methods but `info` are for threads."""

    def image(self, index: int, picture: Image.Image) -> FinishedImage:
        """The file of a finished picture."""
        ...

    def partial(self, index: int, partial_index: int, picture: Image.Image) -> PartialImage:
        """The file of a picture that is part of the way."""
        ...

    def info(self, images: Sequence[FinishedImage]) -> Mapping[str, Any]:
        """The WebUI's `info` object; the data of the images is not looked at."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What a job is to draw."""

    plan: Plan
    drawings: Sequence[Drawing]
    """By index of the image."""
    batch_size: int
    batch_count: int
    step_count: int
    """Denoising steps of one image, over both passes."""
    cost: float
    """Work of one image: pixels times steps."""
    finisher: Finisher
    effective: ImageRequest
    """With every default filled in, without initial images and mask."""
    fingerprint: str
    prompt_tokens: int = 0
    preview_interval_steps: int = 0
    partial_steps: Sequence[int] = field(default=())
    """Steps after which a partial picture is shown."""
    priority: Priority = Priority.NORMAL


def partial_steps(count: int, step_count: int) -> list[int]:
    """Spreads so many partial pictures evenly over the steps before the last one."""
    spread = (step_count * (at + 1) // (count + 1) for at in range(count))
    return sorted({step for step in spread if 0 < step < step_count})
