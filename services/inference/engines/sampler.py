"""Chooses tokens from logits.

Order per row: repetition penalty, presence and frequency penalties, bias, bans (`min_tokens`, or
what the form of guided output forbids), temperature, top-k, typical-p, top-p, min-p. Which path a
row takes depends on its own parameters and logits only, and each row draws one number a token from
its own generator: so its tokens don't depend on what else is in the batch.

The generators are Python's: one draw costs a fiftieth of torch's, and gives the same number on
every device.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.errors import DomainError
from services.inference.engine import SamplingParams, TokenScore
from services.inference.engines.edits import Edits, edit
from services.inference.engines.filters import filter_likeliest, filter_rows
from services.inference.engines.grammar_masks import CompiledGrammar
from services.inference.engines.sequences import SequenceState

BLOCK = 128
"""Probabilities that are summed together before one of them is looked for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token."""

    token_id: int
    score: TokenScore | None
    error: DomainError | None = None
    """No token could be chosen: the sequence's group fails with this."""


class RowSampler:
    """What sampling keeps for one sequence. Can be made anew from the sequence at any time.

    It counts what it chose itself: the sequence learns of it only when the step is over.
    """

    def __init__(self, sequence: SequenceState, eos: frozenset[int], device: torch.device) -> None:
        params = sequence.params
        self.params = params
        prompt = sequence.tokens[: sequence.prompt_length]
        output = sequence.tokens[sequence.prompt_length :]
        grammar = sequence.request.grammar
        guided = grammar.follow(output, params) if isinstance(grammar, CompiledGrammar) else None
        self.edits = Edits(params, prompt, output, eos, guided, device)
        self._random = random.Random(params.seed)
        self._drawn = 0

    @property
    def error(self) -> DomainError | None:
        """Why the form of its output leaves no token."""
        return self.edits.error

    def draw(self) -> float:
        """The number in [0, 1) for the sequence's next token."""
        while self._drawn < self.edits.generated:  # made anew in the middle
            self._random.random()
            self._drawn += 1
        self._drawn += 1
        return self._random.random()

    def note(self, token_id: int) -> None:
        """Counts a token that was chosen."""
        self.edits.note(token_id)


def choose(logits: Tensor, rows: Sequence[RowSampler]) -> list[Choice]:
    """Chooses one token for each row of logits `[rows, vocabulary]` in float32."""
    tokens = _choose_tokens(logits, rows)
    scores = _score_choices(logits, rows, tokens)
    for row, token in zip(rows, tokens, strict=True):
        row.note(token)
    return [
        Choice(token, score, row.error)
        for token, score, row in zip(tokens, scores, rows, strict=True)
    ]


def choose_along(
    logits: Tensor, rows: Sequence[RowSampler], drafts: Sequence[Sequence[int]]
) -> list[list[Choice]]:
    """Chooses each row's tokens for as long as they are what was drafted, and one more.

    Logits are `[rows, positions, vocabulary]`; the last are those after all of a row's draft.
    """
    choices: list[list[Choice]] = [[] for _ in rows]
    first = [logits.shape[1] - 1 - len(draft) for draft in drafts]
    matching = list(range(len(rows)))
    for step in range(1 + max(map(len, drafts))):
        if step == 0 and len(set(first)) == 1:
            current = logits[:, first[0]]
        else:
            current = logits[matching, [first[index] + step for index in matching]]
        chosen = choose(current.float(), [rows[index] for index in matching])
        for index, choice in zip(matching, chosen, strict=True):
            choices[index].append(choice)
        matching = [
            index
            for index in matching
            if step < len(drafts[index])
            and choices[index][-1].error is None
            and choices[index][-1].token_id == drafts[index][step]
        ]
        if not matching:
            break
    return choices


def score_tokens(logits: Tensor, tokens: Sequence[int], top: int) -> list[TokenScore]:
    """Log-probability of `tokens[i]` under `logits[i]`, each with the `top` best alternatives.

    Logits are `[tokens, vocabulary]`.
    """
    if not tokens:
        return []
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])
    best, ids = logprobs.topk(min(top, logits.shape[-1]), dim=-1)
    rows = zip(tokens, _values(chosen[:, 0]), _values(ids), _values(best), strict=True)
    return [
        TokenScore(token, own, tuple(zip(row_ids, row_best, strict=True)))
        for token, own, row_ids, row_best in rows
    ]


def _choose_tokens(logits: Tensor, rows: Sequence[RowSampler]) -> list[int]:
    if any(row.edits.any for row in rows):
        logits = logits.clone()
        edit(logits, [row.edits for row in rows])
    tokens = _values(logits.argmax(dim=-1))
    plain = [i for i, row in enumerate(rows) if not row.params.greedy and not _filters(row.params)]
    filtered = [i for i, row in enumerate(rows) if not row.params.greedy and _filters(row.params)]
    for indices, filtering in ((plain, False), (filtered, True)):
        if not indices:
            continue
        chosen = [rows[index] for index in indices]
        sampled = _sample(logits[indices], chosen, filtering=filtering)
        for index, token in zip(indices, sampled, strict=True):
            tokens[index] = token
    return tokens


def _filters(params: SamplingParams) -> bool:
    return bool(params.top_k) or params.top_p < 1 or params.min_p > 0 or params.typical_p < 1


def _sample(logits: Tensor, rows: Sequence[RowSampler], *, filtering: bool) -> list[int]:
    """Draws from logits `[rows, vocabulary]`."""
    temperature = torch.tensor([row.params.temperature for row in rows], device=logits.device)
    # The best becomes 0 first: a tiny temperature then can't overflow.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature[:, None]
    probabilities = torch.softmax(logits, dim=-1)
    draws = torch.tensor([row.draw() for row in rows], dtype=torch.float64, device=logits.device)
    if not filtering:
        return _values(pick(probabilities, draws))
    params = [row.params for row in rows]
    kept, order, whole = filter_likeliest(probabilities, params)
    tokens = _values(order.gather(1, pick(kept, draws)[:, None])[:, 0])
    rest = [index for index, complete in enumerate(whole) if not complete]
    if rest:
        kept, order = filter_rows(probabilities[rest], [params[index] for index in rest])
        found = _values(order.gather(1, pick(kept, draws[rest])[:, None])[:, 0])
        for index, token in zip(rest, found, strict=True):
            tokens[index] = token
    return tokens


def pick(weights: Tensor, draws: Tensor) -> Tensor:
    """The place in whose share of its row a draw in [0, 1) falls; never one without weight.

    Rows are summed block by block first: adding up single numbers in float64 takes ten times as
    long. Weights are `[rows, places]`, draws and the result `[rows]`.
    """
    padded = torch.constant_pad_nd(weights, (0, -weights.shape[-1] % BLOCK))
    blocks = padded.view(len(weights), -1, BLOCK)
    sums = blocks.sum(-1, dtype=torch.float64)
    before = sums.cumsum(-1)
    targets = draws[:, None] * before[:, -1:]
    # The first whose cumulative weight is above the target has weight itself.
    block = torch.searchsorted(before, targets, right=True).clamp_(max=sums.shape[-1] - 1)
    within = torch.take_along_dim(blocks, block[..., None], 1)[:, 0].double().cumsum(-1)
    rest = targets - before.gather(1, block) + sums.gather(1, block)
    # Rounding must not lead out of the block or to where nothing is, and broken numbers not out of
    # the row.
    last = torch.nextafter(within[:, -1:], torch.zeros_like(rest))
    place = torch.searchsorted(within, torch.minimum(rest, last).clamp_(min=0), right=True)
    return (block * BLOCK + place)[:, 0].clamp_(max=weights.shape[-1] - 1)


def _score_choices(
    logits: Tensor, rows: Sequence[RowSampler], tokens: Sequence[int]
) -> list[TokenScore | None]:
    scores: list[TokenScore | None] = [None] * len(rows)
    wanted = [index for index, row in enumerate(rows) if row.params.logprobs is not None]
    if wanted:
        tops = [rows[index].params.logprobs or 0 for index in wanted]
        scored = score_tokens(logits[wanted], [tokens[index] for index in wanted], max(tops))
        for index, top, score in zip(wanted, tops, scored, strict=True):
            scores[index] = TokenScore(score.token_id, score.logprob, score.top[:top])
    return scores


def _values(tensor: Any) -> list[Any]:
    """A tensor as (nested) lists; torch leaves their type open."""
    return tensor.tolist()
