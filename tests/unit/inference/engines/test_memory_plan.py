"""What fits is given, what doesn't is refused with its arithmetic."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from services.errors import FailedPrecondition
from services.inference.engine import ModelSpec
from services.inference.engines import torch_loader
from services.inference.engines.memory_plan import (
    MemoryNeeds,
    check_kv,
    memory_needs,
    plan_kv,
)
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from services.weights.memory import weight_bytes
from tests.conformance.tiny_models import save_model

# One context is 33 tokens (a column is for padding) of 100 bytes; four run at once.
NEEDS = MemoryNeeds(weights=10_000, working=1_000, kv_token=100, layers=10, context=30, slots=4)
ONE = 3_300


@pytest.mark.parametrize(
    ("free", "asked", "given"),
    [
        (10**9, 0, 4 * ONE),  # no more than can ever be used
        (11_000 + 11_000, 0, 5_000),  # half of 10,000, beside one layer's part twice
        (11_000 + 3_630, 0, ONE),  # no less than one context
        (10**9, 50_000, 50_000),
        (11_000 + 5_500, 5_000, 5_000),
    ],
)
def test_what_is_given(free: int, asked: int, given: int) -> None:
    assert plan_kv(NEEDS, free=free, share=0.5, asked=asked) == given


@pytest.mark.parametrize(
    ("free", "asked", "said"),
    [
        (
            14_000,
            0,
            ["9.766 KiB of weights", "1,000 bytes to work", "33 tokens × 100", "13.67 KiB"],
        ),
        (0, 0, ["0 bytes are free"]),
        (16_000, 5_000, ["50 tokens × 100"]),
        (10**9, 3_000, ["kv_cache_bytes is 2.93 KiB", "33 tokens × 100"]),
    ],
)
def test_what_is_refused(free: int, asked: int, said: list[str]) -> None:
    with pytest.raises(FailedPrecondition) as refusal:
        plan_kv(NEEDS, free=free, share=0.5, asked=asked)
    for part in said:
        assert part in str(refusal.value)


@given(
    free=st.integers(0, 10**6),
    weights=st.integers(0, 10**6),
    context=st.integers(1, 500),
    layers=st.integers(1, 40),
    asked=st.integers(0, 10**6),
    share=st.floats(0, 1),
)
def test_what_is_given_fits_and_holds_a_context(
    free: int, weights: int, context: int, layers: int, asked: int, share: float
) -> None:
    needs = replace(NEEDS, weights=weights, context=context, layers=layers)
    try:
        budget = plan_kv(needs, free=free, share=share, asked=asked)
    except FailedPrecondition:
        return
    assert weights + needs.working + budget + budget // layers <= free + 1
    assert check_kv(budget, needs.kv_token, context) > context
    assert asked in (0, budget)


def test_memory_is_measured_by_what_a_token_really_takes() -> None:
    assert check_kv(3_300, 100, 32) == 33
    with pytest.raises(FailedPrecondition, match="hold 32 tokens of 101 bytes"):
        check_kv(3_300, 101, 32)


@pytest.mark.parametrize(("dtype", "family"), [(torch.float32, "llama"), (torch.bfloat16, "gpt2")])
def test_needs_are_read_from_files(tmp_path: Path, dtype: torch.dtype, family: str) -> None:
    folder = save_model(tmp_path, family)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert weight_bytes([folder / "model.safetensors"], dtype.itemsize) == count * dtype.itemsize
    config = AutoConfig.from_pretrained(folder)
    needs = memory_needs(
        config, [folder / "model.safetensors"], dtype, context=64, slots=4, step_tokens=32
    )
    per_head = {"llama": 2 * 8, "gpt2": 4 * 8}[family]
    assert needs.kv_token == 2 * 2 * per_head * dtype.itemsize
    assert needs.working > 0


async def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(tmp_path)
    steps: list[float] = []

    async def load(settings: TorchSettings) -> None:
        loaded = await TorchLoader(settings).load(ModelSpec("tiny", "1", folder), steps.append)
        await loaded.engine.close()

    cpu = TorchSettings(device="cpu", dtype="float32", max_context=128)
    with pytest.raises(FailedPrecondition, match="kv_cache_bytes is 1,000 bytes"):
        await load(replace(cpu, kv_cache_bytes=1_000))
    monkeypatch.setattr(torch_loader, "free_bytes", lambda device: 50_000)
    with pytest.raises(FailedPrecondition, match="does not fit into memory"):
        await load(cpu)
    assert steps == []
