"""Number types of weights by the names that deployments and settings give them."""

from dataclasses import dataclass

import torch

from services.errors import FailedPrecondition
from services.weights.processor import DTYPES, choose_dtype

FP8 = "fp8"


@dataclass(frozen=True, slots=True)
class NumberType:
    """How weights are kept."""

    dtype: torch.dtype
    """What is computed in, and what all weights have that `fp8` leaves alone."""
    fp8: bool = False
    """Whether the matrices of the layers have eight bits."""

    @property
    def name(self) -> str:
        """Its name."""
        return FP8 if self.fp8 else str(self.dtype).removeprefix("torch.")


def choose_number_type(wanted: str, device: torch.device) -> NumberType:
    """The number type for `auto` or a name.

    Raises:
        FailedPrecondition: this engine has none of that name.
    """
    if wanted == FP8:
        return NumberType(torch.bfloat16, fp8=True)
    if wanted not in ("", "auto", *DTYPES):
        raise FailedPrecondition(
            f"This engine has no number type “{wanted}”: use auto, {', '.join(DTYPES)} or {FP8}."
        )
    return NumberType(choose_dtype(wanted, device))
