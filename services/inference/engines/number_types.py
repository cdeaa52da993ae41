"""Number types of weights by the names that deployments and settings give them."""

from dataclasses import dataclass

import torch

from services.errors import FailedPrecondition
from services.inference.engines.decoder_linear import EIGHT_BITS, Form
from services.weights.processor import DTYPES, choose_dtype

_EIGHT = {form.value: form for form in EIGHT_BITS}


@dataclass(frozen=True, slots=True)
class NumberType:
    """How weights are kept."""

    dtype: torch.dtype
    """What is computed in, and what all weights have that `eight` leaves alone."""
    eight: Form | None = None
    """How the matrices of the layers are kept in eight bits. None: they are not."""

    @property
    def name(self) -> str:
        """Its name."""
        return (
            self.eight.value if self.eight is not None else str(self.dtype).removeprefix("torch.")
        )


def choose_number_type(wanted: str, device: torch.device) -> NumberType:
    """The number type for `auto` or a name.

    Raises:
        FailedPrecondition: this engine has none of that name, or not on this device.
    """
    eight = _EIGHT.get(wanted)
    if eight is Form.FP8:
        return NumberType(torch.bfloat16, eight)
    if eight is Form.INT8:
        if device.type != "cpu":
            raise FailedPrecondition(
                "Weights in int8 are for processors: on a GPU use fp8, or bfloat16."
            )
        return NumberType(choose_dtype("auto", device), eight)
    if wanted not in ("", "auto", *DTYPES):
        names = ", ".join(("auto", *DTYPES, *list(_EIGHT)[:-1]))
        raise FailedPrecondition(
            f"This engine has no number type “{wanted}”: use {names} or {list(_EIGHT)[-1]}."
        )
    return NumberType(choose_dtype(wanted, device))
