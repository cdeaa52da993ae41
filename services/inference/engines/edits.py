"""What requests change about logits before tokens are chosen: penalties, bias, bans, forms.

Only the tokens that something is said about are touched, of all rows at once: a row has tens to
thousands of them, and a vocabulary a hundred thousand.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor

from services.errors import DomainError
from services.inference.engine import SamplingParams
from services.inference.engines.grammar_masks import GuidedSequence


class Tally:
    """Different tokens, and how often each came."""

    def __init__(self, tokens: Iterable[int], device: torch.device) -> None:
        counts = Counter(tokens)
        self._places = {token: place for place, token in enumerate(counts)}
        self.ids = torch.tensor(list(counts), dtype=torch.long, device=device)
        """`[tokens]`."""
        self.counts = torch.tensor(list(counts.values()), dtype=torch.float32, device=device)
        """`[tokens]`."""

    def add(self, token: int) -> None:
        """Counts one more."""
        place = self._places.setdefault(token, len(self._places))
        if place < len(self.ids):
            self.counts[place] += 1
        else:
            self.ids = torch.cat((self.ids, self.ids.new_tensor([token])))
            self.counts = torch.cat((self.counts, self.counts.new_ones(1)))


class Edits:
    """What one sequence changes.

    Args:
        params: what was asked for.
        prompt: its tokens.
        output: tokens that were chosen before.
        eos: tokens that end it.
        guided: follows the form of its output.
        device: where logits are.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        output: Sequence[int],
        eos: Collection[int],
        guided: GuidedSequence | None,
        device: torch.device,
    ) -> None:
        self.params = params
        self.error: DomainError | None = None
        """Why the form of its output leaves no token."""
        self.guided = guided
        self._device = device
        self.generated = len(output)
        """Tokens that were chosen."""
        repeats = params.repetition_penalty != 1 and params.repeat_last_n != 0
        penalised = params.presence_penalty != 0 or params.frequency_penalty != 0
        self._window: deque[int] | None = None
        self._seen: Tally | None = None
        if repeats and params.repeat_last_n > 0:
            self._window = deque((*prompt, *output), maxlen=params.repeat_last_n)
        elif repeats:
            self._seen = Tally((*prompt, *output), device)
        self.chosen = Tally(output, device) if penalised else None
        """Chosen tokens, where they are penalised."""
        self.biased = self._ids(params.logit_bias)
        self.bias = torch.tensor(
            list(params.logit_bias.values()), dtype=torch.float32, device=device
        )
        stops = set(params.stop_token_ids)
        self.ends = self._ids(stops if params.ignore_eos else stops | set(eos))
        """What may not come before `min_tokens`."""

    @property
    def repeats(self) -> bool:
        """Whether tokens that were there are penalised."""
        return self._window is not None or self._seen is not None

    @property
    def early(self) -> bool:
        """Whether it may not end yet. A form says that itself."""
        return self.guided is None and self.generated < self.params.min_tokens

    @property
    def any(self) -> bool:
        """Whether anything is changed."""
        penalised = self.repeats or self.chosen is not None
        return penalised or bool(self.params.logit_bias) or self.guided is not None or self.early

    def recent(self) -> Tensor:
        """`[tokens]`, those that the repetition penalty is for."""
        if self._seen is not None:
            return self._seen.ids
        return self._ids(dict.fromkeys(self._window or ()))

    def note(self, token_id: int) -> None:
        """Counts a token that was chosen, and starts working out what its form allows next."""
        self.generated += 1
        if self.guided is not None:
            self.guided.note(token_id)
        if self._seen is not None:
            self._seen.add(token_id)
        if self._window is not None:
            self._window.append(token_id)
        if self.chosen is not None:
            self.chosen.add(token_id)

    def _ids(self, ids: Iterable[int]) -> Tensor:
        return torch.tensor(list(ids), dtype=torch.long, device=self._device)


def edit(logits: Tensor, rows: Sequence[Edits]) -> None:
    """Applies penalties, bias and bans to logits `[rows, vocabulary]`, in place."""
    repeated = [(row, each.recent()) for row, each in enumerate(rows) if each.repeats]
    if repeated:
        penalty = _spread(repeated, lambda row: rows[row].params.repetition_penalty, logits)
        place = _places(repeated)
        values = logits[place]
        logits[place] = torch.where(values > 0, values / penalty, values * penalty)
    chosen = [(row, each.chosen) for row, each in enumerate(rows) if each.chosen is not None]
    if chosen:
        counted = [(row, tally.ids) for row, tally in chosen]
        frequency = _spread(counted, lambda row: rows[row].params.frequency_penalty, logits)
        presence = _spread(counted, lambda row: rows[row].params.presence_penalty, logits)
        counts = torch.cat([tally.counts for _, tally in chosen])
        place = _places(counted)
        logits[place] = logits[place] - frequency * counts - presence
    biased = [(row, each.biased) for row, each in enumerate(rows) if each.params.logit_bias]
    if biased:
        logits[_places(biased)] += torch.cat([rows[row].bias for row, _ in biased])
    banned = [(row, each.ends) for row, each in enumerate(rows) if each.early]
    if banned:
        logits[_places(banned)] = -torch.inf
    for row, each in enumerate(rows):
        if each.guided is None:
            continue
        try:
            blocked = torch.as_tensor(each.guided.blocked())
        except DomainError as error:
            each.error = error
        else:
            logits[row].masked_fill_(blocked.to(logits.device), -torch.inf)


def _places(parts: Sequence[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
    """Row and token of each of these rows' tokens."""
    ids = torch.cat([ids for _, ids in parts])
    return _spread(parts, lambda row: row, ids), ids


def _spread(
    parts: Sequence[tuple[int, Tensor]], value: Callable[[int], float], like: Tensor
) -> Tensor:
    """A row's value for each of its tokens, of the type of `like`."""
    values = torch.tensor([value(row) for row, _ in parts], dtype=like.dtype)
    counts = torch.tensor([len(ids) for _, ids in parts])
    return values.repeat_interleave(counts).to(like.device)
