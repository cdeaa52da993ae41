"""Drafts: guesses of a sequence's next tokens, which one forward pass then checks all at once.

A guess is what followed when the sequence's last tokens occurred before, in its prompt or its
output. Tokens are chosen as they are without drafts, one after another; a draft counts as far as it
says the same. No torch.
"""

from collections.abc import Collection, Mapping, Sequence

from services.inference.engines.sequences import SequenceState

LONGEST = 4
"""Last tokens that are looked for; of several places, one that agrees in so many."""
SHORTEST = 2
WALK = 32
"""Places that are looked at for one guess."""
PIECE = 2048
"""Tokens of a long prompt that are taken in at a time, so that no step waits for more."""
WIDEST = 32
"""Tokens of a decode pass with drafts, padding included: beyond that, it pays to compute less."""
WORTH = 4
"""At least one in so many of the tokens that drafts add to a pass is a draft, the rest padding."""
LONGEST_REST = 64
"""Steps between two drafts of a sequence whose drafts are never right."""

NO_DRAFTS: Mapping[int, Sequence[int]] = {}


class Lookup:
    """Finds where the last tokens of a growing list occurred before."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens  # only ever appended to
        self._latest: dict[tuple[int, int], int] = {}  # pair → position after its last occurrence
        self._earlier = [0, 0]  # position after a pair → that of the occurrence before; 0: none

    def guess(self, most: int) -> list[int]:
        """What may follow: `most` tokens, or none."""
        tokens = self._tokens
        if len(tokens) <= SHORTEST:
            return []
        self._learn()
        place = self._find()
        if not place:
            return []
        guess = tokens[place : place + most]
        period = len(tokens) - place
        while len(guess) < most:  # it reaches its own beginning: what repeats goes on repeating
            guess.append(guess[-period])
        return guess

    def _learn(self) -> None:
        """Takes in pairs that something follows."""
        tokens, begin = self._tokens, len(self._earlier)
        for place in range(begin, min(len(tokens), begin + PIECE)):
            pair = (tokens[place - 2], tokens[place - 1])
            self._earlier.append(self._latest.get(pair, 0))
            self._latest[pair] = place

    def _find(self) -> int:
        """Position after the latest of the longest occurrences; 0 where there is none."""
        best, longest = 0, 0
        place = self._latest.get((self._tokens[-2], self._tokens[-1]), 0)
        for _ in range(WALK):
            if not place or longest == LONGEST:
                break
            length = self._agreement(place)
            if length > longest:
                best, longest = place, length
            place = self._earlier[place]
        return best

    def _agreement(self, place: int) -> int:
        """How many tokens before a pair's end agree with the last ones, up to `LONGEST`."""
        tokens, length = self._tokens, SHORTEST
        while (
            length < LONGEST
            and length < place
            and tokens[place - length - 1] == tokens[-length - 1]
        ):
            length += 1
        return length


class Pace:
    """How much is drafted for one sequence, by what became of its drafts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = most
        self._rest = 1
        self._wait = 0

    def allow(self) -> int:
        """Most tokens to draft in this step."""
        if self._wait:
            self._wait -= 1
            return 0
        return self._width

    def note(self, drafted: int, matched: int) -> None:
        """Takes in how many of so many drafted tokens were right."""
        if matched == drafted:
            self._width, self._rest = min(self._most, max(self._width, 2 * drafted)), 1
        elif matched:
            self._width, self._rest = matched + 1, 1
        else:
            self._width, self._wait = 1, self._rest
            self._rest = min(LONGEST_REST, 2 * self._rest)


class Drafts:
    """Drafts of all sequences of an engine.

    Args:
        most: drafted tokens of a sequence in one step; 0 drafts nothing.
        eos: end-of-sequence tokens. No draft holds a token that would end its sequence.
    """

    def __init__(self, most: int, eos: frozenset[int]) -> None:
        self._most = most
        self._eos = eos
        self._known: dict[int, tuple[Lookup, Pace]] = {}

    def propose(
        self, decoding: Sequence[SequenceState], *, room: int, columns: int
    ) -> Mapping[int, Sequence[int]]:
        """Drafts by key, for sequences that lack one token each.

        Args:
            decoding: all that share the pass.
            room: tokens that it may compute, padding included.
            columns: columns that attention memory has; it does not grow for drafts.
        """
        if not self._most or not decoding:
            return NO_DRAFTS
        count = len(decoding)
        most = min(self._most, min(WIDEST, room) // count - 1)
        if most < 1:
            return NO_DRAFTS
        guesses = {s.key: self._guess(s, min(most, columns - len(s.tokens))) for s in decoding}
        width = _width([len(guess) for guess in guesses.values()])
        return {key: guess[:width] for key, guess in guesses.items() if guess and width}

    def note(self, key: int, drafted: int, matched: int) -> None:
        """Takes in what became of a sequence's draft."""
        if key in self._known:
            self._known[key][1].note(drafted, matched)

    def retain(self, keys: Collection[int]) -> None:
        """Forgets other sequences; what is known of them can be found out again."""
        for key in self._known.keys() - keys:
            del self._known[key]

    def _guess(self, sequence: SequenceState, most: int) -> list[int]:
        # The step gives one token whatever the draft says.
        most = min(most, sequence.limit - sequence.generated - 1)
        if most < 1:
            return []
        known = self._known.get(sequence.key)
        if known is None:
            known = self._known[sequence.key] = (Lookup(sequence.tokens), Pace(self._most))
        lookup, pace = known
        most = min(most, pace.allow())
        guess = lookup.guess(most) if most else []
        params = sequence.params
        ends = params.stop_token_ids if params.ignore_eos else params.stop_token_ids | self._eos
        return guess[: next((i for i, token in enumerate(guess) if token in ends), len(guess))]


def _width(lengths: Sequence[int]) -> int:
    """Tokens to draft at most, so that padding the others' stays worth it."""
    for width in range(max(lengths, default=0), 0, -1):
        if WORTH * sum(min(length, width) for length in lengths) >= width * len(lengths):
            return width
    return 0
