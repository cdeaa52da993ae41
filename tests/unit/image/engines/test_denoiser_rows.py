"""Rows go through a denoiser alone, unless a wider group gives the same bits."""

import pytest
import torch
from torch import Tensor, nn

from services.image.engines.diffusers_rows import Rows


class Denoiser(nn.Module):
    """Adds one; and, where it is not exact, something that the batch's size decides."""

    def __init__(self, exact_up_to: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self._exact_up_to = exact_up_to
        self.calls: list[int] = []

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **_: object
    ) -> tuple[Tensor]:
        self.calls.append(sample.shape[0])
        found = sample + self.weight + encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None]
        return (found + (sample.shape[0] > self._exact_up_to) * 1e-3,)


def inputs(count: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    sample = torch.randn(2 * count, 4, 4, 4, generator=generator)
    words = torch.randn(2 * count, 7, 3, generator=generator)
    return sample, torch.tensor(5), words


def run(rows: Rows, denoiser: Denoiser, count: int) -> Tensor:
    sample, timestep, words = inputs(count)
    with rows.run(count, lambda: None):
        return denoiser(sample, timestep, encoder_hidden_states=words)[0]


def alone(count: int) -> Tensor:
    sample, _, words = inputs(count)
    return sample + 1 + words.mean(dim=(1, 2))[:, None, None, None]


@pytest.mark.parametrize(("exact_up_to", "width"), [(2, 1), (4, 2), (8, 4), (16, 8), (99, 8)])
@torch.no_grad()
def test_the_widest_exact_group_is_found(exact_up_to: int, width: int) -> None:
    denoiser = Denoiser(exact_up_to)
    rows = Rows(denoiser, exact=True, most=8)
    found = rows.exact_width(lambda count: run(rows, denoiser, count), most=8)
    assert found == width


@pytest.mark.parametrize("exact_up_to", [2, 4, 99])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 11])
@torch.no_grad()
def test_rows_come_out_as_they_do_alone(exact_up_to: int, count: int) -> None:
    denoiser = Denoiser(exact_up_to)
    rows = Rows(denoiser, exact=True, most=8)
    for _ in range(4):  # at first, wider groups are compared
        assert torch.equal(run(rows, denoiser, count), alone(count))
    denoiser.calls.clear()
    run(rows, denoiser, count)
    assert max(denoiser.calls) <= max(2, exact_up_to)
    if exact_up_to == 99:
        assert len(denoiser.calls) < count or count == 1


@torch.no_grad()
def test_with_any_batching_all_run_together() -> None:
    denoiser = Denoiser(99)
    rows = Rows(denoiser, exact=False, most=8)
    assert torch.equal(run(rows, denoiser, 5), alone(5))
    assert denoiser.calls == [10]


@torch.no_grad()
def test_groups_can_be_left_between() -> None:
    denoiser = Denoiser(2)
    rows = Rows(denoiser, exact=True, most=1)
    sample, timestep, words = inputs(4)

    def leave() -> None:
        if len(denoiser.calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError), rows.run(4, leave):
        denoiser(sample, timestep, encoder_hidden_states=words)
    assert denoiser.calls == [2, 2]


@torch.no_grad()
def test_numbers_are_cast_to_the_denoisers_type_and_back() -> None:
    denoiser = Denoiser(99).to(torch.bfloat16)
    rows = Rows(denoiser, exact=True, most=8)
    assert run(rows, denoiser, 2).dtype is torch.float32
