"""Weights in eight bits for processors: what rounds, how it is multiplied, and nothing else."""

import copy
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from services.inference.engines.decoder import Decoder
from services.inference.engines.decoder_build import (
    LOSS_ALLOWED,
    replace_by_decoder,
    round_matrices,
)
from services.inference.engines.decoder_facts import DecoderFacts, decoder_facts
from services.inference.engines.decoder_int8 import (
    FEW_ROWS,
    Int8Matrix,
    round_to_int8,
    to_int8,
)
from services.inference.engines.decoder_linear import Form
from services.inference.engines.masks import Masks
from services.inference.engines.self_check import check_runner
from services.inference.engines.torch_runner import TorchRunner
from tests.unit.inference.engines.decoder_models import VARIANTS, reference

TYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def matrix(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randn(rows, 1, generator=generator).mul(3).exp()  # rows of different sizes
    return (torch.randn(rows, columns, generator=generator) * sizes).to(dtype)


def facts_of(model: PreTrainedModel) -> DecoderFacts:
    facts = decoder_facts(model.config)
    assert facts is not None
    return facts


def difference(own: Tensor, expected: Tensor) -> float:
    distance = (own.float() - expected.float()).norm()
    return float(distance / expected.float().norm().clamp(min=1e-6))


def logits(model: Any, length: int = 20) -> Tensor:
    """Of 2 × `length` rows."""
    tokens = torch.randint(320, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model(tokens[:, :length], use_cache=False).logits


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_only_the_eight_bits_round(rows: int, columns: int, seed: int) -> None:
    weight = matrix(rows, columns, seed)
    values, scales = to_int8(weight)
    assert (values.dtype, scales.dtype, scales.shape) == (torch.int8, torch.bfloat16, (rows, 1))
    rounded = weight.clone()
    round_to_int8(rounded)
    assert torch.equal(rounded, values.float() * scales.float())
    error = (rounded - weight).abs()
    # Half a step; where the scale was rounded down, the largest number is cut a little more.
    assert bool((error <= scales.float() * (0.5 + 127 * 2**-8)).all())
    assert difference(rounded, weight) < 2e-2


@pytest.mark.parametrize("weight", [torch.zeros(3, 5), torch.full((2, 2), 127.0), -torch.eye(4)])
def test_edges(weight: Tensor) -> None:
    rounded = weight.clone()
    round_to_int8(rounded)
    assert torch.allclose(rounded, weight, rtol=2**-8, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 2 * FEW_ROWS),
    inputs=st.sampled_from([1, 5, 31, 32, 40, 64, 96, 100]),
    outputs=st.integers(1, 70),
    biased=st.booleans(),
    dtype=st.sampled_from(TYPES),
    strided=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_of_all_sizes(
    rows: int,
    inputs: int,
    outputs: int,
    biased: bool,
    dtype: torch.dtype,
    strided: bool,
    seed: int,
) -> None:
    weight = matrix(outputs, inputs, seed, dtype)
    bias = torch.randn(outputs).to(dtype) if biased else None
    states = matrix(rows, 2 * inputs, seed + 1, dtype)
    states = states[:, ::2] if strided else states[:, :inputs]
    eight = Int8Matrix(weight)
    assert eight.nbytes == outputs * inputs + 2 * outputs
    rounded = weight.float()
    round_to_int8(rounded)
    expected = F.linear(states.float(), rounded, None if bias is None else bias.float())
    projected = eight.linear(states, bias)
    assert (projected.shape, projected.dtype) == (expected.shape, dtype)
    # What large terms that cancel each other lose is much of their sum, and little of them.
    summands = F.linear(
        states.float().abs(), rounded.abs(), None if bias is None else bias.float().abs()
    )
    assert (projected.float() - expected).norm() < 1.5e-2 * summands.norm()


def test_shapes_are_kept() -> None:
    eight = Int8Matrix(matrix(48, 64, 1))
    for shape in ((1, 1), (3, 5), (FEW_ROWS, 1), (7, 9)):
        assert eight.linear(torch.randn(*shape, 64), None).shape == (*shape, 48)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_family_computes_what_transformers_does_with_the_rounded_weights(
    variant: str, dtype: torch.dtype
) -> None:
    model = reference(variant).to(dtype)
    facts = facts_of(model)
    whole = logits(model)
    decoder = replace_by_decoder(copy.deepcopy(model), facts, eight=Form.INT8)
    assert isinstance(decoder, Decoder)
    assert {p.form for p in decoder.projections} == {Form.INT8}
    round_matrices(model, facts, Form.INT8)
    for length in (4, 20):  # few rows, and more
        expected = logits(model, length)
        assert difference(logits(decoder, length), expected) < 4e-2
    assert 1e-3 < difference(logits(decoder), whole) < LOSS_ALLOWED[Form.INT8]
    runner = TorchRunner(
        decoder,
        Masks(frozenset(facts.kinds), facts.window, decoder.dtype),
        layers=facts.layers,
        vocabulary_size=320,
        eos=frozenset(),
    )
    check_runner(
        decoder,  # type: ignore[arg-type]
        runner,
        vocabulary_size=320,
        context_length=64,
        rounds_in=torch.bfloat16,
    )


@pytest.mark.parametrize(
    "wrong", [{"activation": "gelu"}, {"residual_scale": 0.8}, {"parallel": True}]
)
def test_what_eight_bits_lose_hides_no_error(
    wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = reference("llama")
    facts = facts_of(model)
    with caplog.at_level(logging.WARNING):
        assert replace_by_decoder(model, replace(facts, **wrong), eight=Form.INT8) is None
    assert "differ from transformers'" in caplog.text


def test_a_kernel_that_computes_something_else_is_found_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs for few rows only, so the check has few rows too."""
    linear = Int8Matrix.linear

    def wrong(self: Int8Matrix, states: Tensor, bias: Tensor | None) -> Tensor:
        few = states[..., 0].numel() <= FEW_ROWS
        return linear(self, states * 0.7 if few else states, bias)

    monkeypatch.setattr(Int8Matrix, "linear", wrong)
    with caplog.at_level(logging.WARNING):
        model = reference("llama")
        assert replace_by_decoder(model, facts_of(model), eight=Form.INT8) is None
    assert "differ from transformers'" in caplog.text


def test_what_loses_too_much_is_not_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(LOSS_ALLOWED, Form.INT8, 1e-4)
    model = reference("llama")
    with caplog.at_level(logging.WARNING):
        assert replace_by_decoder(model, facts_of(model), eight=Form.INT8) is None
    assert "in int8 the logits of this llama model differ by" in caplog.text
