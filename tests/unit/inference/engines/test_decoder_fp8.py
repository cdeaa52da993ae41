"""Weights in eight bits: what rounds, what does not, and that nothing else is lost."""

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

from services.inference.engines import decoder_fp8
from services.inference.engines.decoder import Decoder
from services.inference.engines.decoder_build import (
    LOSS_ALLOWED,
    build_decoder,
    replace_by_decoder,
    round_matrices,
)
from services.inference.engines.decoder_facts import DecoderFacts, decoder_facts
from services.inference.engines.decoder_fp8 import (
    Fp8Matrix,
    multiplies_fp8,
    round_to_fp8,
    to_fp8,
)
from services.inference.engines.decoder_linear import Form
from services.inference.engines.masks import Masks
from services.inference.engines.self_check import check_runner
from services.inference.engines.torch_runner import TorchRunner
from tests.unit.inference.engines.decoder_models import VARIANTS, reference


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU that multiplies in eight bits: torch computes the same on a processor, slowly."""
    monkeypatch.setattr(decoder_fp8, "multiplies_fp8", lambda device: True)


def matrix(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
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


def logits(model: Any) -> Tensor:
    tokens = torch.randint(320, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model(tokens, use_cache=False).logits


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_only_the_eight_bits_round(rows: int, columns: int, seed: int) -> None:
    weight = matrix(rows, columns, seed)
    values, scales = to_fp8(weight)
    assert scales.shape == (rows, 1)
    assert bool((torch.frexp(scales).mantissa == 0.5).all())  # powers of two
    rounded = weight.clone()
    round_to_fp8(rounded)
    assert torch.equal(rounded.float(), values.float() * scales)  # bfloat16 holds them
    again = rounded.clone()
    round_to_fp8(again)
    assert torch.equal(again, rounded)
    error = (rounded.float() - weight.float()).abs()
    assert bool((error <= weight.float().abs() / 16 + scales * 2**-10).all())


@pytest.mark.parametrize("weight", [torch.zeros(3, 5), torch.full((2, 2), 448.0), -torch.eye(4)])
def test_edges(weight: Tensor) -> None:
    rounded = weight.clone()
    round_to_fp8(rounded)
    assert torch.equal(rounded, weight)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (40, 1)])
def test_products(shape: tuple[int, int], biased: bool) -> None:
    weight = matrix(48, 32, 5)
    bias = torch.randn(48).to(torch.bfloat16) if biased else None
    states = matrix(shape[0] * shape[1], 32, 6).view(*shape, 32)
    states[0, 0] = 0  # padding may be all zeros
    eight = Fp8Matrix(weight)
    assert eight.nbytes == 48 * 32 + 4 * 48
    rounded = weight.clone()
    round_to_fp8(rounded)
    expected = F.linear(states.float(), rounded.float(), None if bias is None else bias.float())
    wide = eight.linear(states, bias)
    assert (wide.shape, wide.dtype) == (expected.shape, torch.bfloat16)
    assert difference(wide, expected) < 5e-3
    eight.narrow = True
    narrow = eight.linear(states, bias)
    assert (narrow.shape, narrow.dtype) == (expected.shape, torch.bfloat16)
    assert difference(narrow, expected) < 8e-2
    scales = states.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / 448
    seen = (states.float() / scales).to(torch.float8_e4m3fn).float() * scales
    exact = F.linear(seen, rounded.float(), None if bias is None else bias.float())
    assert difference(narrow, exact) < 5e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_family_computes_what_transformers_does_with_the_rounded_weights(
    variant: str,
) -> None:
    model = reference(variant).to(torch.bfloat16)
    whole = logits(model)
    decoder = build_decoder(copy.deepcopy(model), facts_of(model), eight=Form.FP8)
    assert {p.form for p in decoder.projections} == {Form.FP8}
    round_matrices(model, facts_of(model), Form.FP8)
    assert difference(logits(decoder), logits(model)) < 4e-2
    assert 1e-2 < difference(logits(decoder), whole) < LOSS_ALLOWED[Form.FP8]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_family_with_states_in_eight_bits(variant: str, narrow: None) -> None:
    model = reference(variant).to(torch.bfloat16)
    whole, facts = logits(model), facts_of(model)
    decoder = replace_by_decoder(copy.deepcopy(model), facts, eight=Form.FP8)
    assert isinstance(decoder, Decoder)
    assert all(projection._weight.narrow for projection in decoder.projections)  # type: ignore[union-attr]
    assert 1e-2 < difference(logits(decoder), whole) < LOSS_ALLOWED[Form.FP8]
    runner = TorchRunner(
        decoder,
        Masks(frozenset(facts.kinds), facts.window, decoder.dtype),
        layers=facts.layers,
        vocabulary_size=320,
        eos=frozenset(),
    )
    check_runner(decoder, runner, vocabulary_size=320, context_length=64)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(40, 32), (32, 40)])
def test_sizes_that_no_tensor_core_takes_stay_wide(shape: tuple[int, int], narrow: None) -> None:
    assert not Fp8Matrix(matrix(*shape, 1)).narrows
    assert Fp8Matrix(matrix(32, 48, 1)).narrows


def test_processors_multiply_in_bfloat16() -> None:
    assert not multiplies_fp8(torch.device("cpu"))
    model = reference("llama").to(torch.bfloat16)
    decoder = replace_by_decoder(model, facts_of(model), eight=Form.FP8)
    assert decoder is not None
    assert not any(projection._weight.narrow for projection in decoder.projections)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong", [{"activation": "gelu"}, {"residual_scale": 0.8}, {"parallel": True}]
)
def test_what_eight_bits_lose_hides_no_error(
    wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = reference("llama").to(torch.bfloat16)
    facts = facts_of(model)
    with caplog.at_level(logging.WARNING):
        assert replace_by_decoder(model, replace(facts, **wrong), eight=Form.FP8) is None
    assert "differ from transformers'" in caplog.text


def test_what_loses_too_much_is_not_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(LOSS_ALLOWED, Form.FP8, 1e-2)
    model = reference("llama").to(torch.bfloat16)
    with caplog.at_level(logging.WARNING):
        assert replace_by_decoder(model, facts_of(model), eight=Form.FP8) is None
    assert "in fp8 the logits of this llama model differ by" in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("variant", ["llama", "gemma2", "gpt2"])
def test_on_a_gpu(variant: str) -> None:
    """Weights come from the processor layer by layer; where the GPU can, it multiplies narrow."""
    model = reference(variant).to(torch.bfloat16)
    whole = logits(model)
    device = torch.device("cuda", 0)
    decoder = replace_by_decoder(model, facts_of(model), eight=Form.FP8, device=device)
    assert decoder is not None
    tokens = torch.randint(320, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        own = decoder(tokens.to(device)).logits.cpu()
    assert 1e-2 < difference(own, whole) < LOSS_ALLOWED[Form.FP8]
    narrow = [projection._weight.narrow for projection in decoder.projections]  # type: ignore[union-attr]
    assert all(narrow) == multiplies_fp8(device)
