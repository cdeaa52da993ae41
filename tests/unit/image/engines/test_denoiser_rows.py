"""Rows go through a denoiser alone, unless a wider group gives the same bits."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from services.image.engines.diffusers_rows import PROOF, Rows


class Denoiser(nn.Module):
    """Adds one; and, where it is not exact, something that the batch's size decides.

    More words than seven make other kernels, and so does another mode: those are exact alone.
    """

    def __init__(self, exact_up_to: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.exact_up_to = exact_up_to
        self.mode = ""
        self.calls: list[int] = []

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **_: object
    ) -> tuple[Tensor]:
        self.calls.append(sample.shape[0])
        found = sample + self.weight + encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None]
        usual = encoder_hidden_states.shape[1] == 7 and timestep.dtype == torch.int64
        most = self.exact_up_to if usual and not self.mode else 2
        return (found + (sample.shape[0] > most) * 1e-3,)


def inputs(count: int, tokens: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    sample = torch.randn(2 * count, 4, 4, 4, generator=generator)
    words = torch.randn(2 * count, tokens, 3, generator=generator)
    return sample, torch.tensor(5), words


def run(
    rows: Rows,
    denoiser: Denoiser,
    count: int,
    *,
    tokens: int = 7,
    mode: str = "",
    dtype: torch.dtype = torch.int64,
) -> Tensor:
    sample, timestep, words = inputs(count, tokens)
    denoiser.mode = mode
    with rows.run(count, lambda: None, mode=mode):
        return denoiser(sample, timestep.to(dtype), encoder_hidden_states=words)[0]


def alone(count: int, tokens: int = 7) -> Tensor:
    sample, _, words = inputs(count, tokens)
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
def test_in_sixteen_bits_a_group_is_trusted_only_after_many_equal_numbers() -> None:
    denoiser = Denoiser(99).to(torch.bfloat16)
    rows = Rows(denoiser, exact=True, most=8)
    rounds = PROOF // inputs(8)[0].numel()
    for _ in range(rounds):
        run(rows, denoiser, 8)
    assert denoiser.calls == [*[2] * 8, 16] * rounds
    denoiser.calls.clear()
    run(rows, denoiser, 8)
    assert denoiser.calls == [16]


@torch.no_grad()
def test_one_difference_is_enough_however_much_was_equal() -> None:
    denoiser = Denoiser(99).to(torch.bfloat16)
    rows = Rows(denoiser, exact=True, most=2)
    for _ in range(9):
        run(rows, denoiser, 2)
    denoiser.exact_up_to = 2
    assert torch.equal(run(rows, denoiser, 2), run(rows, denoiser, 2))
    denoiser.calls.clear()
    denoiser.exact_up_to = 99
    run(rows, denoiser, 2)
    assert denoiser.calls == [2, 2]


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


OTHER_KERNELS: list[dict[str, Any]] = [
    {"tokens": 14},
    {"mode": "tiling"},
    {"dtype": torch.float32},
]


@pytest.mark.parametrize("other", OTHER_KERNELS)
@pytest.mark.parametrize("count", [2, 3, 8])
@torch.no_grad()
def test_a_verdict_is_of_the_kernels_that_it_was_seen_with(
    other: dict[str, Any], count: int
) -> None:
    denoiser = Denoiser(99)
    rows = Rows(denoiser, exact=True, most=8)
    for _ in range(2):
        assert torch.equal(run(rows, denoiser, count), alone(count))
    assert max(denoiser.calls) > 2, "these go together"
    for _ in range(4):
        found = run(rows, denoiser, count, **other)
        assert torch.equal(found, alone(count, other.get("tokens", 7)))
    denoiser.calls.clear()
    run(rows, denoiser, count)
    assert max(denoiser.calls) > 2, "and still do"


@torch.no_grad()
def test_numbers_that_change_at_every_step_are_no_new_case() -> None:
    denoiser = Denoiser(99)
    rows = Rows(denoiser, exact=True, most=8)
    sample, timestep, words = inputs(2)
    for step in range(3):
        denoiser.calls.clear()
        with rows.run(2, lambda: None):
            denoiser(sample, timestep, encoder_hidden_states=words, scale=1.0 / (step + 1))
    assert denoiser.calls == [4], "compared once, together from then on"
