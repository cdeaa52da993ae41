"""Tensors to try a model with."""

import math
from collections.abc import Sequence

from services.inference.byte_strings import BYTES, joined
from services.inference.tensor_engine import ANY_SIZE, NUMBERS, Tensor, TensorSpec

_MOST_ZEROS = 2**22
"""Largest tensor that a model is tried with."""


def zeros(specs: Sequence[TensorSpec]) -> list[Tensor]:
    """Zeros and empty texts of the smallest sizes that a model takes, unless these are large."""
    tensors: list[Tensor] = []
    for spec in specs:
        shape = tuple(1 if size == ANY_SIZE else size for size in spec.shape or ())
        if math.prod(shape) > _MOST_ZEROS:
            shape = (0,) * len(shape)
        count = math.prod(shape)
        is_text = spec.datatype == BYTES
        data = joined([b""] * count) if is_text else bytes(NUMBERS[spec.datatype] * count)
        tensors.append(Tensor(spec.name, spec.datatype, shape, data))
    return tensors
