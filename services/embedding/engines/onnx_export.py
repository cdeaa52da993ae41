"""Writes an encoder, with its pooling and what follows it, as one ONNX file."""

import contextlib
import importlib
import importlib.util
import inspect
import logging
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING

from services.embedding.engines.dense import Finish
from services.embedding.engines.encoder_facts import EncoderFacts
from services.embedding.engines.encoder_model import ModelLoading
from services.errors import FailedPrecondition

_log = logging.getLogger(__name__)

OPSET = 17
_LENGTHS = (9, 5)
"""Of the inputs that the graph is traced with."""


class Encoder(nn.Module):
    """Token IDs to vectors, as they are before they are scaled; padded, for engines of graphs."""

    def __init__(
        self, model: nn.Module, finish: Finish, modes: Sequence[str], inputs: Sequence[str]
    ) -> None:
        super().__init__()
        self.model = model
        self._finish = finish
        self._modes = modes
        self._inputs = list(inputs)

    def forward(self, *given: Tensor) -> Tensor:
        """Vectors `[inputs, dimensions]`."""
        named = dict(zip(self._inputs, given, strict=True))
        pooled = named.pop("pooling_mask", named["attention_mask"])
        states = cast("Any", self.model)(**named).last_hidden_state.float()
        kept = pooled * named["attention_mask"]
        found = [_POOLS[mode](states, kept) for mode in self._modes]
        vectors = found[0] if len(found) == 1 else torch.cat(found, -1)
        return self._finish(vectors, normalize=False)


class CrossEncoder(nn.Module):
    """Token IDs of pairs to scores in [0, 1]."""

    def __init__(self, model: nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._inputs = list(inputs)

    def forward(self, *given: Tensor) -> Tensor:
        """Scores `[inputs, 1]`."""
        named = dict(zip(self._inputs, given, strict=True))
        return cast("Any", self.model)(**named).logits.float().sigmoid()


def export_onnx(
    facts: EncoderFacts, target: Path, *, scores_pairs: bool, inputs: Sequence[str]
) -> None:
    """Writes the file.

    Raises:
        FailedPrecondition: the architecture can't be written as a graph.
    """
    model = ModelLoading(
        facts.folder,
        facts.config,
        torch.device("cpu"),
        torch.float32,
        scores_pairs=scores_pairs,
        types="token_type_ids" in inputs,
        samples=(),
    ).transformers_model()
    if scores_pairs:
        module: nn.Module = CrossEncoder(model, inputs)
    else:
        width = len(facts.modes) * int(facts.config.hidden_size)
        finish = Finish(facts.files.after, width, torch.device("cpu"))
        module = Encoder(model, finish, facts.modes, inputs)
    module.eval()
    output = "score" if scores_pairs else "embedding"
    shape = (len(_LENGTHS), max(_LENGTHS))
    ids = (torch.arange(shape[0] * shape[1]).reshape(shape) * 7 + 3) % facts.vocabulary_size
    mask = (torch.arange(shape[1])[None] < torch.tensor(_LENGTHS)[:, None]).long()
    types = (torch.arange(shape[1])[None].expand(shape) > 2).long() * mask
    known = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": types,
        "pooling_mask": mask,
    }
    axes = {name: {0: "inputs", 1: "tokens"} for name in inputs}
    try:
        with torch.no_grad(), _without_onnx_package(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cast("Any", torch.onnx).export(
                module,
                tuple(known[name] for name in inputs),
                str(target),
                input_names=list(inputs),
                output_names=[output],
                dynamic_axes={**axes, output: {0: "inputs"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:
        _log.exception("an encoder can't be written as ONNX")
        raise FailedPrecondition(
            f"{facts.config.model_type} can't be written as an ONNX graph by torch: export it with "
            f"--layout python."
        ) from error


def takes_types(facts: EncoderFacts) -> bool:
    """Whether the architecture is told which text of a pair a token belongs to."""
    kind: Any = cast("Any", MODEL_MAPPING)[type(facts.config)]
    return "token_type_ids" in inspect.signature(kind.forward).parameters


def _first(states: Tensor, kept: Tensor) -> Tensor:
    index = kept.argmax(1)
    return states[torch.arange(states.shape[0]), index]


def _last(states: Tensor, kept: Tensor) -> Tensor:
    positions = torch.arange(states.shape[1])[None] * kept
    return states[torch.arange(states.shape[0]), positions.argmax(1)]


def _max(states: Tensor, kept: Tensor) -> Tensor:
    return states.masked_fill(kept[..., None] == 0, torch.finfo(states.dtype).min).amax(1)


def _mean(states: Tensor, kept: Tensor) -> Tensor:
    weights = kept[..., None].float()
    return (states * weights).sum(1) / weights.sum(1)


def _mean_root(states: Tensor, kept: Tensor) -> Tensor:
    weights = kept[..., None].float()
    return (states * weights).sum(1) / weights.sum(1).sqrt()


def _weighted_mean(states: Tensor, kept: Tensor) -> Tensor:
    positions = torch.arange(1, states.shape[1] + 1)[None]
    weights = (kept * positions)[..., None].float()
    return (states * weights).sum(1) / weights.sum(1)


_POOLS = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_root,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


def _unchanged(model: bytes, _opsets: object) -> bytes:
    return model


@contextlib.contextmanager
def _without_onnx_package() -> Generator[None]:
    """Lets torch write graphs where the package `onnx` is missing.

    Torch asks for it to insert functions of onnxscript; these graphs have none.
    """
    if importlib.util.find_spec("onnx") is not None:
        yield
        return
    module: Any = importlib.import_module(
        "torch.onnx._internal.torchscript_exporter.onnx_proto_utils"
    )
    inserting = module._add_onnxscript_fn
    module._add_onnxscript_fn = _unchanged
    try:
        yield
    finally:
        module._add_onnxscript_fn = inserting
