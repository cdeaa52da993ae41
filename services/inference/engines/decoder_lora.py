"""LoRA beside a base model: several adapters in one batch, each row with its own or none.

The adapters of a projection are stacked into two matrices. A pass multiplies by both and silences,
in between, what belongs to other rows' adapters; so it is two matrix products however many adapters
are loaded, and rows without any get exactly the base's numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


class AdapterRows:
    """Which adapter each row of the running pass has; shared by all projections of a model."""

    def __init__(self) -> None:
        self.slots: Tensor | None = None
        """`[batch, 1, 1]`, number of the adapter, 0 for none. None: no row has one."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """One adapter's change of one projection: `[outputs, rank] @ [rank, inputs]`, scaled."""

    down: Tensor
    up: Tensor


class Adapters:
    """The adapters of one projection."""

    def __init__(self, rows: AdapterRows) -> None:
        self._rows = rows
        self._loaded: dict[int, Sequence[LowRank]] = {}
        self._down: Tensor | None = None  # [ranks, inputs]
        self._up: Tensor | None = None  # [outputs, ranks]
        self._owners: Tensor | None = None  # [ranks]

    @property
    def active(self) -> bool:
        """Whether they change anything in the running pass."""
        return self._down is not None and self._rows.slots is not None

    def put(self, slot: int, changes: Sequence[LowRank]) -> None:
        """Takes an adapter in."""
        self._loaded[slot] = changes
        self._stack()

    def drop(self, slot: int) -> None:
        """Forgets an adapter."""
        if self._loaded.pop(slot, None) is not None:
            self._stack()

    def add(self, projected: Tensor, states: Tensor) -> Tensor:
        """Adds each row's change to `[batch, queries, outputs]`."""
        slots = self._rows.slots
        assert slots is not None
        assert self._down is not None
        assert self._up is not None
        narrow = F.linear(states, self._down)
        narrow = narrow.masked_fill(self._owners != slots, 0)
        return projected + F.linear(narrow, self._up)

    def _stack(self) -> None:
        changes = [(slot, change) for slot, all_ in self._loaded.items() for change in all_]
        if not changes:
            self._down = self._up = self._owners = None
            return
        self._down = torch.cat([change.down for _, change in changes])
        self._up = torch.cat([change.up for _, change in changes], 1)
        self._owners = torch.tensor(
            [slot for slot, change in changes for _ in range(len(change.down))],
            device=self._down.device,
        )
