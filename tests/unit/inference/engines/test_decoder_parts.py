"""Parts of the compact decoder: projections, attention, and what it does not take."""

import copy
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, PreTrainedModel

from services.inference.engines.decoder import Decoder
from services.inference.engines.decoder_attention import Rotary, capped, grouped, shared
from services.inference.engines.decoder_build import replace_by_decoder
from services.inference.engines.decoder_facts import DecoderFacts, decoder_facts
from services.inference.engines.decoder_linear import Form, Projection, activate, packs
from tests.conformance.tiny_models import random_model
from tests.unit.inference.engines.decoder_models import compact, reference

SIZES = st.integers(1, 5)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@settings(max_examples=40, deadline=None)
@given(batch=SIZES, kv_heads=SIZES, group=SIZES, queries=SIZES, more=st.integers(0, 9), seed=SIZES)
def test_all_ways_of_attention_agree(
    batch: int, kv_heads: int, group: int, queries: int, more: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    length = queries + more
    query = torch.randn(batch, kv_heads * group, queries, 8, generator=generator)
    key, value = torch.randn(2, batch, kv_heads, length, 8, generator=generator)
    hidden = torch.rand(batch, 1, queries, length, generator=generator) < 0.4
    hidden[..., 0] = False
    mask = torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min)
    scores = query @ key.repeat_interleave(group, 1).transpose(2, 3) * 0.7 + mask
    expected = scores.softmax(-1) @ value.repeat_interleave(group, 1)
    for actual, tolerance in (
        (shared(query, key, value, mask, 0.7), 1e-5),
        (grouped(query, key, value, mask, 0.7), 1e-5),
        (capped(query, key, value, mask, 0.7, 1e4), 1e-3),  # so high a cap changes little
    ):
        assert actual.shape == expected.shape
        assert float((actual - expected).abs().max()) < tolerance


def test_a_rotation_turns_each_pair_by_its_angle() -> None:
    rotary = Rotary(torch.tensor([1.0, 0.1]), 2.0)
    states = torch.randn(2, 3, 4, 6)
    positions = torch.tensor([[0, 1, 2], [7, 8, 9]])
    turned = rotary.at(positions, torch.float32).apply(states)
    angles = positions[:, :, None, None] * torch.tensor([1.0, 0.1])
    pairs = torch.complex(states[..., :2], states[..., 2:4]) * torch.polar(
        torch.full_like(angles, 2.0), angles
    )
    expected = torch.cat((pairs.real, pairs.imag, states[..., 4:]), -1)
    assert torch.allclose(turned, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", "relu"])
def test_blocked_weights_compute_what_plain_ones_do(
    activation: str, biased: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(48, 32, generator=generator).to(dtype)
    if not packs(weight):
        pytest.skip("this processor has no blocked form for the number type")
    bias = torch.randn(48, generator=generator).to(dtype) if biased else None
    plain = Projection(weight, bias, (), form=Form.PLAIN)
    blocked = Projection(weight, bias, (), form=Form.BLOCKED)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for rows in (1, 3, 40):
        states = torch.randn(rows, 2, 32, generator=generator).to(dtype)
        factor = torch.randn(rows, 2, 48, generator=generator).to(dtype)
        for actual, expected in (
            (blocked(states), plain(states)),
            (blocked.times(states, factor), plain.times(states, factor)),
            (blocked.activated(states, activation), plain.activated(states, activation)),
        ):
            assert torch.allclose(
                actual.float(), expected.float(), rtol=tolerance, atol=20 * tolerance
            )


def test_unknown_activations_are_an_error() -> None:
    with pytest.raises(ValueError, match="elf"):
        activate(torch.zeros(1), "elf")


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("phi", {"qk_layernorm": True}),
        ("llama", {"hidden_act": "relu6"}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("gpt2", {"add_cross_attention": True}),
    ],
)
def test_options_it_does_not_cover_are_left_to_transformers(
    family: str, changes: dict[str, Any]
) -> None:
    config = random_model(family).config
    assert decoder_facts(config) is not None
    for name, value in changes.items():
        setattr(config, name, value)
    assert decoder_facts(config) is None


def facts_of(model: PreTrainedModel) -> DecoderFacts:
    facts = decoder_facts(model.config)
    assert facts is not None
    return facts


def test_it_replaces_only_what_it_computes_the_same(caplog: pytest.LogCaptureFixture) -> None:
    model = reference("llama")
    facts = facts_of(model)
    assert isinstance(replace_by_decoder(copy.deepcopy(model), facts), Decoder)
    wrong = replace(facts, activation="relu")
    with caplog.at_level(logging.WARNING):
        assert replace_by_decoder(copy.deepcopy(model), wrong) is None
    assert "llama" in caplog.text
    broken = replace(facts, layers=facts.layers + 1)
    assert replace_by_decoder(copy.deepcopy(model), broken) is None


def test_no_second_copy_of_the_weights_stays() -> None:
    model = reference("llama-tied")
    assert replace_by_decoder(model, facts_of(model)) is not None
    assert sum(parameter.numel() for parameter in model.parameters()) == 0


@pytest.mark.parametrize("variant", ["llama", "gemma2-capped", "gpt2"])
def test_bfloat16_is_near(variant: str) -> None:
    model = reference(variant)
    tokens = torch.randint(320, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(tokens, use_cache=False).logits
        actual = compact(model.to(torch.bfloat16))(tokens).logits.float()
    assert float((actual - expected).norm() / expected.norm()) < 5e-2


def test_calls_that_cannot_be_meant_are_errors() -> None:
    decoder = compact(reference("llama"))
    tokens = torch.tensor([[1, 2]])
    with pytest.raises(ValueError, match="past_key_values"):
        decoder(tokens, use_cache=True)
    with pytest.raises(ValueError, match="attention_mask"):
        decoder(tokens, past_key_values=DynamicCache(), use_cache=True)
