"""Decode steps of fixed shapes over fixed memory, so that a device can record and replay them.

A step of few rows is many small kernels, and starting them costs more than running them. Here the
tokens of a step go into buffers that stay where they are; the pass over them has one of few shapes
and does nothing that waits for the device or depends on what is in the buffers. What a `Recorder`
makes of it, such as a CUDA graph, is one thing to start.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from services.inference.engines.decoder import Decoder
from services.inference.engines.decoder_build import TOLERANCE
from services.inference.engines.kv_pool import COLUMN_QUANTUM
from services.inference.engines.masks import Masks
from services.inference.engines.slot_cache import SlotCache
from services.inference.engines.steps import Span

_log = logging.getLogger(__name__)

EAGER_USES = 3
"""Steps of a shape that run as they come before it is recorded, which takes as long as several."""
MOST_SHAPES = 64
"""Shapes that are kept; the one not used for longest goes first."""
LEAST_LENGTH = 8
"""Columns that are read at least, in quanta of the attention memory."""


class Recorder(Protocol):
    """Turns a function over fixed memory into one that does the same again, faster."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Records a step.

        May run it any number of times, none included; only a call of what is returned has to have
        its effects. `step` may be run again with the same buffers: it writes what it wrote.
        """
        ...

    def reset(self) -> None:
        """Everything recorded so far is given up; nothing of it will be called any more."""
        ...


@dataclass(frozen=True, slots=True)
class Shape:
    """What distinguishes one recorded step from another."""

    rows: int
    """Sequences, padding included."""
    length: int
    """Columns of attention memory that are read."""


class StaticDecode:
    """Runs batches of one token each over fixed buffers.

    Padding rows come after the batch's own. They write to the memory's column for padding and read
    numbers that nobody uses.

    Args:
        decoder: the model.
        masks: makes its masks.
        cache: the attention memory.
        recorder: records steps.
        slots: most sequences of a step.
    """

    def __init__(
        self, decoder: Decoder, masks: Masks, cache: SlotCache, recorder: Recorder, slots: int
    ) -> None:
        self._decoder = decoder
        self._masks = masks
        self._cache = cache
        self._recorder = recorder
        self._rows = rounded_up(slots)
        self._generation = cache.generation
        self._inputs: Tensor | None = None  # [tokens, positions and columns; rows; 1]
        self._logits: Tensor | None = None  # [rows, 1, vocabulary]
        self._uses: Counter[Shape] = Counter()
        self._steps: OrderedDict[Shape, Callable[[], None]] = OrderedDict()  # oldest use first
        self._failed: set[Shape] = set()

    @property
    def shapes(self) -> Sequence[Shape]:
        """What is recorded, the one not used for longest first."""
        return tuple(self._steps)

    def logits(self, spans: Sequence[Span]) -> Tensor | None:
        """Computes `[batch, 1, vocabulary]`, which hold until the next call.

        None: these spans are no such step, or not yet, and nothing was done.
        """
        if self._generation != self._cache.generation:  # all that was recorded points elsewhere
            self.forget()
        shape = self._shape(spans)
        if shape is None or shape in self._failed:
            return None
        self._uses[shape] += 1
        if self._uses[shape] <= EAGER_USES:
            return None
        self._fill(spans, shape)
        step = self._steps.get(shape) or self._record(shape)
        if step is None:
            return None
        self._steps.move_to_end(shape)
        step()
        assert self._logits is not None
        return self._logits[: len(spans)]

    def forget(self) -> None:
        """Gives up what is recorded."""
        self._steps.clear()
        self._uses.clear()
        self._recorder.reset()
        self._generation = self._cache.generation

    def _shape(self, spans: Sequence[Span]) -> Shape | None:
        """The shape for spans of one token that lie in the first rows; None for all others."""
        rows, columns = self._cache.shape
        if len(spans) > self._rows or not self._cache.ready:
            return None
        if not first_rows(spans):
            return None
        quanta = -(-max(span.end for span in spans) // COLUMN_QUANTUM)
        length = COLUMN_QUANTUM * max(LEAST_LENGTH, rounded_up(quanta))
        return Shape(min(rounded_up(len(spans)), rows), min(length, columns))

    def _fill(self, spans: Sequence[Span], shape: Shape) -> None:
        """Puts a batch into the buffers, with one copy to the device."""
        decoder = self._decoder
        if self._inputs is None or self._logits is None:
            self._inputs = torch.zeros((3, self._rows, 1), dtype=torch.long, device=decoder.device)
            self._logits = torch.zeros(
                (self._rows, 1, decoder.outputs), dtype=decoder.dtype, device=decoder.device
            )
        padding = [0] * (shape.rows - len(spans))
        starts = [span.start for span in spans]
        values = torch.tensor(
            [
                [token for span in spans for token in span.tokens] + padding,
                starts + padding,
                starts + [self._cache.shape[1]] * len(padding),
            ]
        )
        self._inputs[:, : shape.rows, 0].copy_(values)

    def _record(self, shape: Shape) -> Callable[[], None] | None:
        assert self._inputs is not None
        assert self._logits is not None
        tokens, positions, columns = self._inputs[:, : shape.rows]
        logits = self._logits[: shape.rows]

        def step() -> None:
            self._cache.place_first(columns, shape.length)
            self._decoder.rows(())
            output = self._decoder(
                tokens,
                attention_mask=self._masks.make(positions, shape.length),
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits.copy_(output.logits)

        try:
            recorded = self._recorder.record(step)
            self._prove(recorded, step, logits)
        except Exception:
            _log.warning(
                "decode steps of %d rows and %d columns can't be recorded: they run as they come",
                shape.rows,
                shape.length,
                exc_info=True,
            )
            self._failed.add(shape)
            return None
        self._steps[shape] = recorded
        if len(self._steps) > MOST_SHAPES:
            oldest, _ = self._steps.popitem(last=False)
            del self._uses[oldest]
        return recorded

    def _prove(
        self, recorded: Callable[[], None], step: Callable[[], None], logits: Tensor
    ) -> None:
        """Raises where what was recorded does not compute what the step does."""
        step()
        expected = logits.clone().float()
        logits.zero_()
        recorded()
        square = (logits.float() - expected).square().sum()
        difference = float((square / expected.square().sum()).sqrt())
        if not difference < TOLERANCE[self._decoder.dtype]:  # NaN neither
            raise RuntimeError(f"recorded, they give logits that differ by {difference:.2g}")


def first_rows(spans: Sequence[Span]) -> bool:
    """Whether spans are a plain decode step: a token each, no adapter, in the first rows."""
    return all(
        span.count == 1 and not span.draft and not span.sequence.adapter and span.place == place
        for place, span in enumerate(spans)
    )


def rounded_up(count: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16 … that is no less: under a third of it is padding."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= count else power
