"""The training of the starter image model: rates, averages, the optimizer, joined levels."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from starters.image.recipe.autoencoder import PHASES, Phase, autoencoder, crops, loss
from starters.image.recipe.joining import joined
from starters.image.recipe.network import Painter
from starters.image.recipe.paths import MODEL
from starters.image.recipe.reading import Reader
from starters.image.recipe.schedule import SCHEDULE, phase_of, share_of_peak, steps
from starters.image.recipe.sketching import Sketcher
from starters.image.recipe.tokenizer import merges, tokenizer
from starters.image.recipe.training import Average, Optimizer, rate


@pytest.fixture(scope="module")
def painter() -> Painter:
    torch.manual_seed(1)
    return Painter(tokenizer(MODEL / "tokenizer"))


def test_the_rate_rises_then_falls() -> None:
    rates = [rate(step, 100, warm=10) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == 1
    assert rates[-1] < 0.02


def test_every_step_has_a_phase_and_a_rate() -> None:
    assert phase_of(0) == SCHEDULE[0]
    assert phase_of(steps() - 1) == SCHEDULE[-1]
    assert all(0 < share_of_peak(step) <= 1 for step in range(steps()))
    assert share_of_peak(steps() - 1) < 0.05


def test_the_average_follows_the_weights() -> None:
    model = nn.Linear(3, 2)
    average = Average(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(5)
    for step in range(200):
        average.update(step)
    assert torch.allclose(average.into(nn.Linear(3, 2)).weight, torch.tensor(5.0), atol=1e-3)


def test_the_optimizer_teaches_convolutions_matrices_and_vectors() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    model = model.to(memory_format=torch.channels_last)
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer = Optimizer(model, (), (0.02, 0.01))
    shown, told = torch.randn(32, 2, 4, 4), torch.randint(0, 3, (32,))
    losses: list[float] = []
    for _ in range(60):
        error = functional.cross_entropy(model(shown), told)
        error.backward()
        optimizer.step(1.0)
        losses.append(error.item())
    assert losses[-1] < losses[0] / 2
    assert all((now != then).any() for now, then in zip(model.parameters(), before, strict=True))


def test_a_kept_optimizer_goes_on_alike() -> None:
    def trained(model: nn.Module, optimizer: Optimizer, count: int) -> None:
        for _ in range(count):
            model(torch.ones(1, 3)).square().sum().backward()
            optimizer.step(1.0)

    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    optimizer = Optimizer(model, (), (0.02, 0.01))
    trained(model, optimizer, 3)
    other = nn.Linear(3, 3)
    other.load_state_dict(model.state_dict())
    again = Optimizer(other, (), (0.02, 0.01))
    again.load_state_dict(deepcopy(optimizer.state_dict()))
    trained(model, optimizer, 2)
    trained(other, again, 2)
    assert torch.equal(model.weight, other.weight)


def test_merges_join_the_most_frequent_pairs_first() -> None:
    assert merges(Counter({"red": 9, "reef": 5, "rare": 1}), 2) == [("r", "e"), ("re", "d</w>")]


def test_the_inner_levels_learn_without_the_outer_ones(painter: Painter) -> None:
    sketcher = Sketcher(painter)
    noise = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 100, (2, 30))
    error = sketcher.loss(torch.randn(2, 4, 32, 32), tokens, noise)
    error.backward()
    unet = painter.unet
    assert unet.conv_in.weight.grad is None
    assert unet.down_blocks[0].resnets[0].conv1.weight.grad is None
    for part in (unet.down_blocks[2], unet.down_blocks[3], unet.mid_block, unet.up_blocks[0]):
        assert all(weight.grad is not None for weight in part.parameters())
    assert painter.text_encoder.get_input_embeddings().weight.grad is not None
    painter.zero_grad()
    painter.requires_grad_(True)


def test_joining_hands_over_what_the_inner_levels_are_used_to(painter: Painter) -> None:
    entry = Sketcher(painter).entry
    painter.requires_grad_(True)
    latents = functional.interpolate(torch.randn(48, 4, 4, 4), 32)
    assert joined(painter, entry, latents, torch.Generator().manual_seed(0)) < 0.3


def test_the_whole_learns_in_every_part(painter: Painter) -> None:
    tokens = torch.randint(0, 100, (2, 77))
    noise = torch.Generator().manual_seed(0)
    painter.loss(torch.randn(2, 4, 16, 16), tokens, noise).backward()
    missing = [name for name, weight in painter.named_parameters() if weight.grad is None]
    assert missing == []
    painter.zero_grad()


def test_reading_tells_pictures_and_words(painter: Painter) -> None:
    reader = Reader(painter.text_encoder)
    picture, words = reader.losses(torch.randn(2, 4, 32, 32), torch.randint(0, 100, (2, 30)))
    assert picture.isfinite()
    assert words.item() == pytest.approx(0.7, abs=0.3)  # a coin for every word, before learning


@pytest.mark.parametrize("phase", PHASES, ids=range(len(PHASES)))
def test_the_autoencoder_learns_in_every_part(phase: Phase) -> None:
    torch.manual_seed(0)
    model = autoencoder()
    lowered, error = loss(model, crops(0)[:2], phase, torch.Generator())
    lowered.backward()
    assert error.item() > 0
    assert all(weight.grad is not None for weight in model.parameters())


def test_crops_are_a_function_of_the_step() -> None:
    assert torch.equal(crops(3), crops(3))
    assert not torch.equal(crops(3), crops(4))


def test_a_saved_tokenizer_is_taken_up(tmp_path: Path) -> None:
    shipped = tokenizer(MODEL / "tokenizer")
    shipped.save_pretrained(tmp_path)
    assert tokenizer(tmp_path)("a red circle").input_ids == shipped("a red circle").input_ids
