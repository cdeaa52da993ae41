"""What both recipes calculate with: Muon as torch has it, in the number type of the machine."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from starters import computing
from starters.computing import Muon, orthogonal

SHAPES = [(8, 8), (4, 24), (24, 4)]


def moved(kind: type[torch.optim.Optimizer], shape: tuple[int, int]) -> torch.Tensor:
    torch.manual_seed(1)
    matrix = nn.Parameter(torch.randn(shape))
    optimizer = kind([matrix], lr=0.02, momentum=0.9, weight_decay=0.01)  # type: ignore[call-arg]
    for _ in range(5):
        matrix.grad = torch.randn(shape)
        optimizer.step()
    return matrix.detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_in_bf16_it_is_torchs(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "fast_dtype", lambda device: torch.bfloat16)
    assert torch.allclose(moved(Muon, shape), moved(torch.optim.Muon, shape), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_fp32_it_is_nearly_the_same(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "fast_dtype", lambda device: torch.float32)
    exact = moved(Muon, shape)
    assert not torch.equal(exact, moved(torch.optim.Muon, shape))
    assert torch.allclose(exact, moved(torch.optim.Muon, shape), atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_directions_come_out_about_equally_long(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    made = orthogonal(torch.randn(shape), dtype)
    lengths = torch.linalg.svdvals(made)
    assert made.dtype == torch.float32
    assert made.shape == shape
    assert lengths.min() > 0.4
    assert lengths.max() < 1.4


def test_what_has_no_gradient_stays() -> None:
    matrix = nn.Parameter(torch.ones(3, 3))
    Muon([matrix], 0.1).step()
    assert torch.equal(matrix.detach(), torch.ones(3, 3))


def test_losses_are_not_calculated() -> None:
    with pytest.raises(TypeError, match="closure"):
        Muon([nn.Parameter(torch.ones(3, 3))], 0.1).step(lambda: 1.0)
