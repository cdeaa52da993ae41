"""Where training starts: a network whose attention already finds what stands in its prompt.

A small network learns to copy late and by luck: a head that looks one token back and one that
seeks the same token earlier must arise together (Olsson et al., *In-context Learning and Induction
Heads*, 2022). Here they are set before the first step; training does with them what it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from starters.chat.recipe.network import Layer, Network, Shape

_BACK: Final = 4
"""Each head of the first layer looks so many tokens back: 1, 2, 3 and 4."""
_SEEKERS: Final = (2, 4)
"""The layers that seek."""
_LIKENESS: Final = 32
"""Values that tell one token from another, for seeking."""
_CONSTANT: Final = 4.0
"""What all tokens have in common, as a multiple of the spread of what they have not."""
_SPREAD: Final = 0.05
_LOOK: Final = 24.0
_SEEK: Final = 1.4
_WEIGHTS: Final = (1.0, 0.8, 0.6)
"""What the last token, the one before and the one before that count for in seeking."""
_COPY: Final = 2.0
_SURE: Final = 2.0
_REST: Final = 0.1
"""What is left of the random start of heads that are set."""


def begin(network: Network) -> None:
    """Sets the embedding, the heads that look back and those that seek.

    A token's values in the embedding are its identity, then empty room for the likeness of each of
    the four tokens before it, then a constant that attention by place needs.
    """
    shape = network.shape
    names = shape.width - _BACK * _LIKENESS - 1
    with torch.no_grad():
        network.norm.fill_(_SURE)
        network.embedding.zero_()
        network.embedding[:, :names] = torch.randn(shape.vocabulary, names) * _SPREAD
        network.embedding[:, -1] = _CONSTANT * _SPREAD
        likeness = _directions(_LIKENESS, names)
        _look_back(network.layers[0], shape, likeness)
        for at in _SEEKERS:
            _seek(network.layers[at], shape, likeness)


def _directions(count: int, width: int) -> Tensor:
    """Random directions at right angles to each other."""
    return torch.linalg.qr(torch.randn(width, count)).Q.T


def _rooms(shape: Shape) -> Sequence[slice]:
    """Where the likeness of the token so many back stands: of the token itself, nowhere."""
    first = shape.width - _BACK * _LIKENESS - 1
    return [slice(first + i * _LIKENESS, first + (i + 1) * _LIKENESS) for i in range(_BACK)]


def _look_back(layer: Layer, shape: Shape, likeness: Tensor) -> None:
    """Head h attends to the token h + 1 back and writes its likeness into that room."""
    half, names = shape.head // 2, likeness.shape[1]
    turns = shape.theta ** (-torch.arange(half) / half)
    loud = _LOOK * (turns**0.3)
    layer.q.mul_(_REST)
    layer.k.mul_(_REST)
    layer.o.zero_()
    for head, room in enumerate(_rooms(shape)):
        top = head * shape.head
        angle = turns * (head + 1)
        # Rotation turns the query by its place: turned back so far, it points at that key.
        layer.q[top : top + half, -1] = loud.sqrt() * angle.cos()
        layer.q[top + half : top + shape.head, -1] = -loud.sqrt() * angle.sin()
        layer.k[top : top + half, -1] = loud.sqrt()
        layer.k[top + half : top + shape.head, -1] = 0.0
        layer.v[top : top + _LIKENESS] = 0.0
        layer.v[top : top + _LIKENESS, :names] = likeness
        layer.o[room, top : top + _LIKENESS] = torch.eye(_LIKENESS) * _SPREAD


def _seek(layer: Layer, shape: Shape, likeness: Tensor) -> None:
    """Each pair of heads finds where the last tokens stood before, and copies what came next."""
    half, names = shape.head // 2, likeness.shape[1]
    # Slow turns alone: what is sought may stand anywhere before.
    slow = torch.cat((torch.arange(half // 2, half), torch.arange(half + half // 2, shape.head)))
    rooms = _rooms(shape)
    layer.q.mul_(_REST)
    layer.k.mul_(_REST)
    layer.o.zero_()
    for pair in range(shape.heads // 2):
        mixes = [_directions(_LIKENESS, _LIKENESS) for _ in _WEIGHTS]
        for head in (2 * pair, 2 * pair + 1):
            top = head * shape.head
            rows = top + slow
            layer.q[rows] = 0.0
            layer.k[rows] = 0.0
            for back, (mix, weight) in enumerate(zip(mixes, _WEIGHTS, strict=True)):
                sought = _SEEK * weight**0.5 * mix
                if back == 0:
                    layer.q[rows, :names] += sought @ likeness
                else:
                    layer.q[rows, rooms[back - 1]] += sought
                layer.k[rows, rooms[back]] += sought
            part = slice((head % 2) * shape.head, min(names, (head % 2 + 1) * shape.head))
            size = part.stop - part.start
            layer.v[top : top + shape.head] = 0.0
            layer.v[top : top + size, part] = torch.eye(size)
            layer.o[part, top : top + size] = torch.eye(size) * _SPREAD * _COPY
