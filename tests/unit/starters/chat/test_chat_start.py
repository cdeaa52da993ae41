"""Where training starts: attention that copies before anything is learnt."""

from __future__ import annotations

import math

import pytest
import torch

from starters.chat.recipe.network import Network, Shape
from starters.chat.recipe.start import begin

SHAPE = Shape(layers=5)
LENGTH = 60


def network(*, begun: bool) -> Network:
    """A network of the shipped width, in fp32."""
    torch.manual_seed(1)
    made = Network(SHAPE, torch.float32)
    if begun:
        begin(made)
    return made


def loss_of_repeating(made: Network, gap: int = 0) -> float:
    """The loss on random tokens that have stood there before, `gap` other tokens back."""
    torch.manual_seed(2)
    once = torch.randint(10, SHAPE.vocabulary, (4, LENGTH))
    between = torch.randint(10, SHAPE.vocabulary, (4, gap))
    tokens = torch.cat((once, between, once), 1)
    length = tokens.shape[1]
    rows = torch.arange(4)[:, None] * length
    at = (rows + torch.arange(length - LENGTH + 3, length - 1)).flatten()
    position = torch.arange(length).expand(4, length)
    owner = torch.ones_like(tokens)
    with torch.no_grad():
        loss = made(tokens, owner, position, at, tokens.flatten()[at + 1], torch.ones(len(at)))
    return loss.item()


@pytest.mark.parametrize("gap", [0, 7, 800])
def test_it_repeats_what_stood_there_before(gap: int) -> None:
    assert loss_of_repeating(network(begun=True), gap) < 1.5


def test_a_random_start_knows_nothing() -> None:
    assert loss_of_repeating(network(begun=False)) > math.log(SHAPE.vocabulary) - 0.5


def test_training_reaches_what_starts_at_zero() -> None:
    """What heads and feed-forward networks write is zero at first: it must not stay so."""
    made = network(begun=True)
    tokens = torch.randint(10, SHAPE.vocabulary, (2, 64))
    at = torch.arange(20, 60)
    loss = made(
        tokens,
        torch.ones_like(tokens),
        torch.arange(64).expand(2, 64),
        at,
        tokens.flatten()[at + 1],
        torch.ones(40),
    )
    loss.backward()
    for name, parameter in made.named_parameters():
        if name.endswith((".o", ".down", "embedding")):
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name
