"""A batch as tensors: all inputs in one row."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor

from services.embedding.engine import Tokens
from services.embedding.engines.packing import Blocks, lay_out


@dataclass(frozen=True, slots=True)
class Row:
    """Inputs one after another. Tensors are on the device."""

    ids: Tensor
    """Token IDs, `[tokens]`."""
    positions: Tensor
    """Of each token in its own input, from 0: `[tokens]`."""
    inputs: Tensor
    """Which input, in the row's order, a token belongs to: `[tokens]`."""
    second: Tensor | None
    """Whether a token belongs to a pair's second text: `[tokens]`. None: there are no pairs."""
    starts: list[int]
    """Where each input begins, in the row's order."""
    lengths: list[int]
    ignored: list[int]
    """Leading tokens of each input that are not pooled."""
    blocks: list[Blocks]
    order: list[int]
    """Index in the batch of each input."""

    def restored(self, results: Tensor) -> Tensor:
        """Results `[inputs, …]` in the order of the batch."""
        places = torch.empty(len(self.order), dtype=torch.long)
        places[torch.tensor(self.order)] = torch.arange(len(self.order))
        return results[places.to(results.device)]


def make_row(batch: Sequence[Tokens], device: torch.device) -> Row:
    """Lays a batch out."""
    layout = lay_out([len(tokens.ids) for tokens in batch])
    placed = [batch[index] for index in layout.order]
    lengths = [len(tokens.ids) for tokens in placed]
    sizes = torch.tensor(lengths)
    ends = sizes.cumsum(0)
    begins = ends - sizes
    count = int(ends[-1])
    inputs = torch.repeat_interleave(sizes, output_size=count)
    positions = torch.arange(count) - begins[inputs]
    ids = torch.tensor(list(chain.from_iterable(tokens.ids for tokens in placed)))
    second = None
    if any(tokens.second_from is not None for tokens in placed):
        firsts = [
            length if tokens.second_from is None else tokens.second_from
            for tokens, length in zip(placed, lengths, strict=True)
        ]
        second = (positions >= torch.tensor(firsts)[inputs]).to(device)
    return Row(
        ids=ids.to(device),
        positions=positions.to(device),
        inputs=inputs.to(device),
        second=second,
        starts=cast("Any", begins).tolist(),
        lengths=lengths,
        ignored=[tokens.ignored for tokens in placed],
        blocks=layout.blocks,
        order=layout.order,
    )
