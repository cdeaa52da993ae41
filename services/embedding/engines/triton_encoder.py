"""Makes vectors, or scores pairs, with a model on Triton. Tokenizing and normalizing stay here."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.embedding.engine import EncoderInfo, Tokens
from services.embedding.engines.hf_text import HFTokenizer
from services.embedding.engines.inputs import check_encodes, check_inputs, check_scores
from services.embedding.vectors import normalized
from services.errors import DomainError, Internal
from services.tritonserver.closing import Closing
from services.tritonserver.hosted import HostedModel
from services.tritonserver.tensors import Tensor, tensor

_REQUEST_TOKENS = 4096
"""Most places of one request, padding included; unless its only input has more."""
_LEAST_FILL = 0.75
"""Inputs shorter than this share of a request's longest go with another one."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What the model in Triton takes and gives."""

    inputs: frozenset[str]
    output: str
    """`embedding` or `score`."""
    most_inputs: int
    """Of one request."""
    pad_multiple: int = 1
    """Lengths are padded to a multiple of it: engines that batch equal shapes only find more."""
    longest: int = 0
    """Most tokens that requests are padded to."""


class TritonEncoder:
    """An encoder on Triton. Must be used on one event loop."""

    def __init__(
        self, info: EncoderInfo, text: HFTokenizer, hosted: HostedModel, contract: Contract
    ) -> None:
        self._info = info
        self._text = text
        self._hosted = hosted
        self._contract = contract
        self._closing = Closing()

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
        rows = await self._compute(batch)
        vectors = [row.astype("<f4").tobytes() for row in rows]
        return normalized(vectors) if normalize and vectors else vectors

    async def score(self, batch: Sequence[Tokens]) -> list[float]:
        """Relevance of pairs."""
        check_scores(self._info)
        check_inputs(self._info, batch)
        return [float(row[0]) for row in await self._compute(batch)]

    async def probe(self) -> None:
        """Runs one real forward pass."""
        self._closing.check()
        await self._hosted.probe()

    async def lost(self) -> DomainError:
        """Waits until no Triton has it any more, or it is closed; returns why."""
        return await self._hosted.lost()

    async def close(self) -> None:
        """Fails what runs and waits, and has Triton unload it."""
        self._closing.close()
        await self._hosted.close()

    async def _compute(self, batch: Sequence[Tokens]) -> list[NDArray[Any]]:
        self._closing.check()
        if not batch:
            return []
        return await self._closing.run(self._all(batch))

    async def _all(self, batch: Sequence[Tokens]) -> list[NDArray[Any]]:
        """Several requests at a time: Triton's instances and endpoints share them."""
        parts = list(_parts(batch, self._contract.most_inputs))
        calls = [self._infer([batch[index] for index in part]) for part in parts]
        results: list[Any] = [None] * len(batch)
        for part, found in zip(parts, await _gather(calls), strict=True):
            for index, row in zip(part, found, strict=True):
                results[index] = row
        return results

    async def _infer(self, inputs: Sequence[Tokens]) -> NDArray[Any]:
        contract = self._contract
        answer = await self._hosted.infer(to_tensors(inputs, contract), [contract.output])
        output = answer.get(contract.output)
        if output is None or output.datatype != "FP32":
            raise Internal(f"Triton's model `{self._hosted.name}` gave no {contract.output}.")
        found = output.array()
        width = self._info.dimensions or 1
        if found.shape != (len(inputs), width):
            raise Internal(
                f"Triton's model `{self._hosted.name}` gave results of another shape than its "
                f"configuration says."
            )
        if not np.isfinite(found).all():
            raise Internal("The model's results are not finite numbers: export it in float32.")
        return found


def to_tensors(inputs: Sequence[Tokens], contract: Contract) -> list[Tensor]:
    """The inputs of a request, padded to one length."""
    longest = max(len(one.ids) for one in inputs)
    padded = -(-longest // contract.pad_multiple) * contract.pad_multiple
    if contract.longest:
        padded = max(longest, min(padded, contract.longest))
    shape = (len(inputs), padded)
    ids, mask, types, pooled = (np.zeros(shape, np.int64) for _ in range(4))
    for place, one in enumerate(inputs):
        length = len(one.ids)
        ids[place, :length] = one.ids
        mask[place, :length] = 1
        pooled[place, one.ignored : length] = 1
        if one.second_from is not None:
            types[place, one.second_from : length] = 1
    made = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": types,
        "pooling_mask": pooled,
    }
    return [tensor(name, "INT64", made[name]) for name in made if name in contract.inputs]


def _parts(batch: Sequence[Tokens], most: int) -> Iterator[list[int]]:
    """Indices of inputs of similar length, longest first."""
    order = sorted(range(len(batch)), key=lambda index: len(batch[index].ids), reverse=True)
    part: list[int] = []
    for index in order:
        longest = len(batch[part[0]].ids) if part else 0
        full = len(part) >= most or (len(part) + 1) * longest > _REQUEST_TOKENS
        if part and (full or len(batch[index].ids) < _LEAST_FILL * longest):
            yield part
            part = []
        part.append(index)
    if part:
        yield part


async def _gather(calls: Sequence[Any]) -> list[NDArray[Any]]:
    """All results; the first failure ends the others."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
