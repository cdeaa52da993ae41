"""Runs an encoder in this process, on one thread that owns the device."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from services.embedding.engine import EncoderInfo, Tokens
from services.embedding.engines.dense import Finish
from services.embedding.engines.encoder_model import EncoderModel
from services.embedding.engines.hf_text import HFTokenizer
from services.embedding.engines.inputs import check_encodes, check_inputs, check_scores
from services.embedding.engines.pooling import pool
from services.embedding.engines.rows import Row, make_row
from services.errors import Internal, Unavailable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the thread runs."""

    model: EncoderModel
    modes: tuple[str, ...]
    finish: Finish
    device: torch.device

    def vectors(self, row: Row, *, normalize: bool) -> Tensor:
        """Vectors of a row's inputs, in its order."""
        return self.finish(pool(self.model.states(row), row, self.modes), normalize=normalize)

    def scores(self, row: Row) -> Tensor:
        """Scores of a row's pairs, in its order."""
        assert self.model.logits is not None
        return self.model.logits(row).sigmoid()


class TorchEncoder:
    """An encoder on its thread. Must be used on one event loop."""

    def __init__(self, info: EncoderInfo, text: HFTokenizer, machine: Machine) -> None:
        self._info = info
        self._text = text
        self._machine: Machine | None = machine
        self._closing = threading.Event()
        self._device = ThreadPoolExecutor(1, thread_name_prefix="torch-encoder")

    @property
    def info(self) -> EncoderInfo:
        """What it is."""
        return self._info

    @property
    def text(self) -> HFTokenizer:
        """Its tokenizer."""
        return self._text

    async def encode(self, batch: Sequence[Tokens], *, normalize: bool) -> list[bytes]:
        """Vectors of a batch."""
        check_encodes(self._info)
        check_inputs(self._info, batch)
        return await self._run(
            batch,
            lambda machine, row: machine.vectors(row, normalize=normalize),
            lambda rows: [row.tobytes() for row in rows.numpy().astype("<f4", copy=False)],
        )

    async def score(self, batch: Sequence[Tokens]) -> list[float]:
        """Relevance of pairs."""
        check_scores(self._info)
        check_inputs(self._info, batch)
        return await self._run(batch, Machine.scores, lambda rows: cast("Any", rows).tolist())

    async def probe(self) -> None:
        """Runs one real forward pass."""
        text = self._text
        ids = text.encode(["probe"])[0]
        if self._info.scores_pairs:
            await self.score([text.pair(ids, ids)])
        else:
            await self.encode([text.single(ids)], normalize=True)

    async def close(self) -> None:
        """Fails what runs and waits, ends the thread and frees the model."""
        self._closing.set()
        await asyncio.to_thread(self._device.shutdown)
        self._machine = None

    async def _run(
        self,
        batch: Sequence[Tokens],
        compute: Callable[[Machine, Row], Tensor],
        finish: Callable[[Tensor], list[Any]],
    ) -> list[Any]:
        """Has the thread compute something; it stops soon after the caller leaves."""
        if not batch:
            return []
        self._check_open()
        left = threading.Event()
        try:
            done = self._device.submit(self._perform, batch, compute, finish, left)
        except RuntimeError:  # it was closed meanwhile
            raise _closed() from None
        try:
            return await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            left.set()
            raise

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise _closed()

    # On the thread.

    def _perform(
        self,
        batch: Sequence[Tokens],
        compute: Callable[[Machine, Row], Tensor],
        finish: Callable[[Tensor], list[Any]],
        left: threading.Event,
    ) -> list[Any]:
        machine = self._machine
        assert machine is not None
        results: list[Any] = [None] * len(batch)
        for indices in _parts(batch, self._info.batch_tokens):
            self._check_open()
            if left.is_set():
                break
            row = make_row([batch[index] for index in indices], machine.device)
            found = row.restored(compute(machine, row)).float().cpu()
            if not bool(found.isfinite().all()):
                _log.error("results are not finite", extra={"inputs": len(indices)})
                raise Internal("The model's results are not finite numbers: deploy it in float32.")
            for index, result in zip(indices, finish(found), strict=True):
                results[index] = result
        self._check_open()
        return results


def _parts(batch: Sequence[Tokens], most: int) -> Iterator[list[int]]:
    """Indices of inputs in parts of at most so many tokens (or one input), by length."""
    order = sorted(range(len(batch)), key=lambda index: len(batch[index].ids))
    part: list[int] = []
    tokens = 0
    for index in order:
        length = len(batch[index].ids)
        if part and tokens + length > most:
            yield part
            part, tokens = [], 0
        part.append(index)
        tokens += length
    if part:
        yield part


def _closed() -> Unavailable:
    return Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
