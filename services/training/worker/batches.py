"""Which examples are trained in which step, and how a step's examples are cut into parts. No torch.

The order follows from the seed alone, so that every worker of a job goes through the same steps.
"""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class Schedule:
    """The steps of a training: each epoch goes through all examples in an order of its own.

    Args:
        tokens: of each example, as the model reads them.
        batch_size: examples of a step; the last of an epoch may have fewer.
        epoch_count: times that each example is trained.
        seed: of the order.
    """

    def __init__(
        self, tokens: Sequence[int], *, batch_size: int, epoch_count: int, seed: int
    ) -> None:
        self._tokens = np.asarray(tokens, dtype=np.int64)
        self._seed = seed
        self.batch_size = batch_size
        self.epoch_count = epoch_count
        self.steps_per_epoch = -(-len(self._tokens) // batch_size)
        self.step_count = self.steps_per_epoch * epoch_count
        starts = np.arange(0, len(self._tokens), batch_size)
        epochs = [
            np.add.reduceat(self._tokens[self._order(epoch)], starts)
            for epoch in range(epoch_count)
        ]
        self._done = np.cumsum([0, *np.concatenate(epochs)])

    def epoch(self, number: int) -> Iterator[list[int]]:
        """The examples of each step of an epoch, counted from 0."""
        order = self._order(number)
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def tokens_until(self, step: int) -> int:
        """Tokens trained in the first so many steps."""
        return int(self._done[step])

    def epochs_until(self, step: int) -> float:
        """Epochs done after so many steps, with the part of the current one."""
        return step / self.steps_per_epoch

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return _shuffled(len(self._tokens), f"{self._seed}:{epoch}")


@lru_cache(maxsize=2)
def _shuffled(count: int, seed: str) -> NDArray[np.int64]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return np.asarray(order, dtype=np.int64)


def parts(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Cuts a step's examples into parts that fit into memory: positions, longest examples first.

    Args:
        lengths: of the examples.
        most_tokens: of a part, its padding included; an example that is longer makes one by itself.
    """
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    found: list[list[int]] = []
    for position in order:
        last = found[-1] if found else []
        if last and (len(last) + 1) * lengths[last[0]] <= most_tokens:
            last.append(position)
        else:
            found.append([position])
    return found
