"""Chooses tokens from logits.

Order per row: repetition penalty, presence and frequency penalties, bias, bans (`min_tokens`, or
what the form of guided output forbids), temperature, top-k, typical-p, top-p, min-p. Which path a
row takes depends on its own parameters only, and each row draws one number a token from its own
generator: so its tokens don't depend on what else is in the batch.

The generators are Python's: one draw costs a fiftieth of torch's, and gives the same number on
every device.
"""

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.errors import DomainError
from services.inference.engine import SamplingParams, TokenScore
from services.inference.engines.filters import filter_rows
from services.inference.engines.grammar_masks import CompiledGrammar
from services.inference.engines.sequences import SequenceState


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

    def __init__(
        self,
        sequence: SequenceState,
        eos: frozenset[int],
        vocabulary_size: int,
        device: torch.device,
    ) -> None:
        params = sequence.params
        self.params = params
        self._generated = sequence.generated
        self._vocabulary_size = vocabulary_size
        self._device = device
        stops = params.stop_token_ids
        self._banned = self._ids(stops if params.ignore_eos else stops | eos)
        self._biased = self._ids(params.logit_bias)
        self._bias = torch.tensor(list(params.logit_bias.values()), device=device)
        self._repeats = params.repetition_penalty != 1 and params.repeat_last_n != 0
        self._penalised = params.presence_penalty != 0 or params.frequency_penalty != 0
        self._seen = self._count(sequence.tokens) > 0 if self._repeats else None
        self._window: deque[int] | None = None
        if self._repeats and params.repeat_last_n > 0:
            self._window = deque(sequence.tokens, maxlen=params.repeat_last_n)
        self._counts = (
            self._count(sequence.tokens[sequence.prompt_length :]) if self._penalised else None
        )
        self._random = random.Random(params.seed)
        self._drawn = 0
        self.error: DomainError | None = None
        """Why the form of its output leaves no token."""
        grammar = sequence.request.grammar
        self._guided = None
        if isinstance(grammar, CompiledGrammar):
            self._guided = grammar.follow(sequence.tokens[sequence.prompt_length :], params)

    @property
    def edits(self) -> bool:
        """True when the logits are changed before temperature."""
        params = self.params
        return bool(
            self._repeats
            or self._penalised
            or params.logit_bias
            or self._guided is not None
            or self._generated < params.min_tokens
        )

    def edit(self, logits: Tensor) -> Tensor:
        """Applies penalties, bias and bans to a copy of logits `[vocabulary]`."""
        params = self.params
        logits = logits.clone()
        seen = self._recent()
        if seen is not None:
            penalty = params.repetition_penalty
            logits = torch.where(
                seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits
            )
        if self._counts is not None:
            logits -= params.frequency_penalty * self._counts
            logits -= params.presence_penalty * (self._counts > 0)
        if params.logit_bias:
            logits[self._biased] += self._bias
        if self._guided is not None:
            try:
                blocked = torch.as_tensor(self._guided.blocked())
            except DomainError as error:
                self.error = error
            else:
                logits.masked_fill_(blocked.to(self._device), -torch.inf)
        elif self._generated < params.min_tokens:
            logits[self._banned] = -torch.inf
        return logits

    def draw(self) -> float:
        """The number in [0, 1) for the sequence's next token."""
        while self._drawn < self._generated:  # made anew in the middle
            self._random.random()
            self._drawn += 1
        self._drawn += 1
        return self._random.random()

    def note(self, token_id: int) -> None:
        """Counts a token that was chosen, and starts working out what its form allows next."""
        self._generated += 1
        if self._guided is not None:
            self._guided.note(token_id)
        if self._seen is not None:
            self._seen[token_id] = True
        if self._counts is not None:
            self._counts[token_id] += 1
        if self._window is not None:
            self._window.append(token_id)

    def _recent(self) -> Tensor | None:
        """`[vocabulary]`, true for tokens that the repetition penalty is for."""
        return self._seen if self._window is None else self._count(self._window) > 0

    def _count(self, tokens: Sequence[int]) -> Tensor:
        return torch.bincount(self._ids(tokens), minlength=self._vocabulary_size)

    def _ids(self, ids: Iterable[int]) -> Tensor:
        return torch.tensor(list(ids), dtype=torch.long, device=self._device)


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
    edited = [index for index, row in enumerate(rows) if row.edits]
    if edited:
        logits = logits.clone()
        for index in edited:
            logits[index] = rows[index].edit(logits[index])
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
    order: Tensor | None = None
    if filtering:
        probabilities, order = filter_rows(probabilities, [row.params for row in rows])
    cumulative = probabilities.double().cumsum(dim=-1)
    draws = torch.tensor([row.draw() for row in rows], dtype=torch.float64, device=logits.device)
    targets = draws[:, None] * cumulative[:, -1:]
    # The first position whose cumulative probability is above the target has a probability itself.
    places = torch.searchsorted(cumulative, targets, right=True)
    places = places.clamp_(max=logits.shape[-1] - 1)
    if order is not None:
        places = order.gather(1, places)
    return _values(places[:, 0])


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
