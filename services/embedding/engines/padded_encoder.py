"""Runs any encoder on transformers' own code: inputs of similar length together, padded."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from services.embedding.engines.rows import Row

BATCH_TOKENS = 2048
"""Tokens of one padded forward pass, padding included."""
LEAST_FILL = 0.75
"""Inputs shorter than this share of a batch's longest start another one."""


@dataclass(frozen=True, slots=True)
class _Padded:
    """Inputs of similar length."""

    inputs: list[int]
    """In the row's order."""
    arguments: dict[str, Tensor]
    present: Tensor
    """Which places hold tokens: `[inputs, longest]`."""


class PaddedEncoder:
    """Runs a model of transformers over rows.

    Args:
        model: it, on its device.
        pad: the token that fills up.
        types: whether the model is told which text of a pair a token belongs to.
    """

    def __init__(self, model: PreTrainedModel, *, pad: int, types: bool) -> None:
        self._model = cast("Any", model)
        self.device = model.device
        self.dtype = model.dtype
        self._pad = pad
        taken = inspect.signature(model.forward).parameters
        self._types = types and "token_type_ids" in taken
        self._options = {"use_cache": False} if "use_cache" in taken else {}

    @torch.inference_mode()
    def __call__(self, row: Row) -> Tensor:
        """The states of a row's tokens after the last layer, `[tokens, width]`."""
        parts: dict[int, Tensor] = {}
        for padded in self._batches(row):
            output = self._model(**padded.arguments, **self._options)
            for index, states, present in zip(
                padded.inputs, output.last_hidden_state, padded.present, strict=True
            ):
                parts[index] = states[present]
        return torch.cat([parts[index] for index in range(len(row.lengths))])

    @torch.inference_mode()
    def logits(self, row: Row) -> Tensor:
        """The logits of a classifier of one label, `[inputs]` in the row's order."""
        logits = torch.empty(len(row.lengths), device=self.device)
        for padded in self._batches(row):
            output = self._model(**padded.arguments, **self._options)
            logits[torch.tensor(padded.inputs, device=self.device)] = output.logits[:, 0].float()
        return logits

    def _batches(self, row: Row) -> Iterator[_Padded]:
        waiting = sorted(range(len(row.lengths)), key=row.lengths.__getitem__, reverse=True)
        while waiting:
            longest = row.lengths[waiting[0]]
            most = max(1, BATCH_TOKENS // longest)
            inputs = [i for i in waiting[:most] if row.lengths[i] >= LEAST_FILL * longest]
            waiting = waiting[len(inputs) :]
            yield self._pad_up(row, inputs, longest)

    def _pad_up(self, row: Row, inputs: list[int], longest: int) -> _Padded:
        ids = torch.full((len(inputs), longest), self._pad, device=self.device)
        present = torch.zeros_like(ids, dtype=torch.bool)
        types = torch.zeros_like(ids)
        for place, index in enumerate(inputs):
            length = row.lengths[index]
            span = slice(row.starts[index], row.starts[index] + length)
            ids[place, :length] = row.ids[span]
            present[place, :length] = True
            if row.second is not None:
                types[place, :length] = row.second[span]
        arguments = {"input_ids": ids, "attention_mask": present.long()}
        if self._types:
            arguments["token_type_ids"] = types
        return _Padded(inputs, arguments, present)
