"""The number type of all contestants: bfloat16 where the processor is made for it, else float32."""

from typing import Final

import torch

from services.weights.processor import choose_dtype

DTYPE: Final = choose_dtype("auto", torch.device("cpu"))
NAME: Final = str(DTYPE).removeprefix("torch.")
