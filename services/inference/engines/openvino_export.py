"""Converts a Hugging Face model for OpenVINO. Takes source, target, and `f16` or `f32`.

A process of its own: tracing warns, takes more than the model's memory, and none of that shall stay
with the engine. What can't be converted ends it with `REFUSED` and a sentence on its output.

The model is traced with a cache of plain concatenations and a mask made of its inputs, which
OpenVINO recognises and turns into paged attention. Whether the result computes the same is checked
before it counts: tokens and their log-probabilities, in a batch of prompts of different lengths.
"""

import gc
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import openvino
import openvino.opset13 as openvino_ops
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from services.inference.engines.openvino_check import ConversionError, check, expect

REFUSED = 3
"""Exit status when the model can't be converted; the output says why."""
MODEL = "openvino_model.xml"
FACTS = "facts.json"
PAST_TOKENS, NEW_TOKENS = 3, 4
"""Shape of the traced example; every dimension but the widths stays open."""

ov: Any = openvino
ops: Any = openvino_ops


class Past:
    """Attention state in the form that Hugging Face models ask for."""

    is_compileable = False

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.keys, self.values = list(tensors[0::2]), list(tensors[1::2])

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Appends along the tokens; tensors are `[batch, heads, tokens, head size]`."""
        self.keys[layer] = torch.cat([self.keys[layer], key], 2)
        self.values[layer] = torch.cat([self.values[layer], value], 2)
        return self.keys[layer], self.values[layer]

    def get_seq_length(self, layer: int = 0) -> int:
        """Positions are given, so nobody counts from here."""
        return 0


class Traced(nn.Module):
    """The model as a function of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        beam_idx: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        """Logits, then keys and values of every layer."""
        state = Past([tensor.index_select(0, beam_idx) for tensor in past])
        places = torch.arange(attention_mask.shape[1])
        seen = (places[None, None] <= position_ids[:, :, None])[:, None]
        seen = seen & attention_mask[:, None, None, :].bool()
        logits = self.model(
            input_ids=input_ids,
            attention_mask=torch.where(seen, 0.0, torch.finfo(torch.float32).min),
            position_ids=position_ids,
            past_key_values=state,
            use_cache=True,
        ).logits
        pairs = zip(state.keys, state.values, strict=True)
        return (logits, *(tensor for pair in pairs for tensor in pair))


def export(source: Path, target: Path, weights: str) -> None:
    """Converts a folder and checks the result.

    Raises:
        ConversionError: it can't be converted.
    """
    model = _load(source)
    expected = expect(model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = _convert(model)
    ov.save_model(converted, target / MODEL, compress_to_fp16=weights == "f16")
    (target / FACTS).write_text(json.dumps({"parameter_count": parameters}))
    del model, converted
    gc.collect()
    check(target, expected, weights)


def _load(source: Path) -> Any:
    try:
        model, report = cast("Any", AutoModelForCausalLM).from_pretrained(
            source,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise ConversionError(
            f"the weights can't be loaded with this config.json, in float32 and with fused "
            f"attention ({error})"
        ) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ConversionError(f"the weights lack {len(missing)} tensors ({missing[0]} …)")
    return model.eval().requires_grad_(False)


def _convert(model: Any) -> Any:
    shapes = _past_shapes(model)
    rows, total = 2, PAST_TOKENS + NEW_TOKENS
    example = (
        torch.ones(rows, NEW_TOKENS, dtype=torch.long),
        torch.ones(rows, total, dtype=torch.long),
        torch.arange(PAST_TOKENS, total)[None].repeat(rows, 1),
        torch.arange(rows, dtype=torch.int32),
        *(torch.zeros(rows, heads, PAST_TOKENS, size) for heads, size in shapes),
    )
    try:
        converted = ov.convert_model(Traced(model), example_input=example)
    except Exception as error:
        raise ConversionError(f"OpenVINO can't convert it ({error})") from error
    layers = [f"{layer}.{kind}" for layer in range(len(shapes) // 2) for kind in ("key", "value")]
    past = [f"past_key_values.{name}" for name in layers]
    present = [f"present.{name}" for name in layers]
    names = ["input_ids", "attention_mask", "position_ids", "beam_idx", *past]
    if len(converted.inputs) != len(names):
        raise ConversionError("its graph does not use all of its inputs")
    for value, name in zip(converted.inputs, names, strict=True):
        value.get_tensor().set_names({name})
        value.get_node().set_friendly_name(name)
    for value, name in zip(converted.outputs, ["logits", *present], strict=True):
        value.get_tensor().set_names({name})
    open_shapes: dict[str, list[int]] = {name: [-1, -1] for name in names[:3]}
    open_shapes["beam_idx"] = [-1]
    for name, (heads, size) in zip(past, shapes, strict=True):
        open_shapes[name] = [-1, heads, -1, size]
    converted.reshape(open_shapes)
    _keep_state(converted, dict(zip(past, present, strict=True)), shapes)
    return converted


def _past_shapes(model: Any) -> list[tuple[int, int]]:
    """Heads and head size of each layer's keys and values, as the model itself makes them."""
    cache = model(torch.zeros(1, 1, dtype=torch.long), use_cache=True).past_key_values
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return [(int(tensor.shape[1]), int(tensor.shape[3])) for tensor in tensors]


def _keep_state(converted: Any, pairs: dict[str, str], shapes: list[tuple[int, int]]) -> None:
    """Makes attention state internal, empty at first: the form that paging starts from."""
    transformations: Any = __import__(
        "openvino._offline_transformations", fromlist=["apply_make_stateful_transformation"]
    )
    transformations.apply_make_stateful_transformation(converted, pairs)
    rows = ops.gather(
        ops.shape_of(converted.input("input_ids"), output_type="i64"),
        ops.constant(np.array([0])),
        ops.constant(np.array(0)),
    )
    reads = [node for node in converted.get_ops() if node.get_type_name() == "ReadValue"]
    if len(reads) != len(shapes):
        raise ConversionError("its attention state can't be told apart")
    for node in reads:
        _, heads, _, size = node.get_output_partial_shape(0)
        empty = np.array([heads.get_length(), 0, size.get_length()])
        shape = ops.concat([rows, ops.constant(empty)], axis=0)
        node.set_arguments([ops.broadcast(ops.constant(np.float32(0)), shape)])
    converted.validate_nodes_and_infer_types()


def main(source: str, target: str, weights: str) -> int:
    """Converts; returns the exit status."""
    transformers.utils.logging.disable_progress_bar()
    try:
        export(Path(source), Path(target), weights)
    except ConversionError as refusal:
        print(" ".join(str(refusal).split())[:1000])
        return REFUSED
    return 0
