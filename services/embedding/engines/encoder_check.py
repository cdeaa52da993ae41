"""Proves at load time that an encoder computes in our batches what transformers' code computes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from services.embedding.engine import Tokens
from services.embedding.engines.rows import Row, make_row

LENGTHS = (11, 70, 5, 24, 3)
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference, as a share of the norm."""

Compute = Callable[[Row], Tensor]
"""Computes something for each token or input of a row."""


def differs(
    own: Compute,
    reference: Compute,
    batch: Sequence[Tokens],
    device: torch.device,
    *,
    least_norm: float = 1e-6,
) -> float:
    """How far a batch is from its inputs computed one by one: the norm's share, at worst.

    Smaller norms than `least_norm` count as that: a logit near 0 may differ by more than itself.
    """
    row = make_row(batch, device)
    together = own(row).float()
    worst = 0.0
    for place, index in enumerate(row.order):
        alone = reference(make_row([batch[index]], device)).float()
        if len(together) == len(row.lengths):
            mine = together[place : place + 1]
        else:
            mine = together[row.starts[place] : row.starts[place] + row.lengths[place]]
        distance = (mine - alone).square().sum().sqrt()
        share = float(distance / alone.square().sum().sqrt().clamp(min=least_norm))
        worst = max(worst, share if share == share else torch.inf)  # NaN is as bad as can be
    return worst


def samples(*, vocabulary_size: int, context_length: int, avoid: int, pairs: bool) -> list[Tokens]:
    """Inputs of several lengths.

    Args:
        vocabulary_size: of the model.
        context_length: most tokens.
        avoid: the token of padding, whose meaning differs between families.
        pairs: whether they are pairs of texts.
    """
    found: list[Tokens] = []
    for number, length in enumerate(LENGTHS):
        length = min(length, context_length)
        ids = [(7 + 13 * number + 31 * place) % vocabulary_size for place in range(length)]
        ids = [(token + 1) % vocabulary_size if token == avoid else token for token in ids]
        found.append(Tokens(ids, second_from=max(1, length // 2) if pairs else None))
    return found
