"""Whose prompts are read next."""

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from services.inference.engines.sequences import SequenceState
from services.inference.engines.steps import Batch, Phase


class Turns:
    """Higher priorities first; within one, principals in turn; within those, as they were admitted.

    The principal whose turn is longest ago comes first, so that nobody's long prompts keep the
    others' waiting.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}  # principal → its last turn
        self._turn = 0

    def order(self, sequences: Sequence[SequenceState]) -> list[SequenceState]:
        """Puts sequences that read their prompts in order."""
        if len(sequences) < 2:
            return list(sequences)
        present = {sequence.group.request.principal for sequence in sequences}
        self._last = {who: turn for who, turn in self._last.items() if who in present}
        levels: dict[int, dict[str, list[SequenceState]]] = {}
        for sequence in sequences:
            group = sequence.group
            level = levels.setdefault(group.priority.value, {})
            level.setdefault(group.request.principal, []).append(sequence)
        ordered: list[SequenceState] = []
        for _, level in sorted(levels.items(), reverse=True):
            lines = [level[who] for who in sorted(level, key=lambda who: self._last.get(who, -1))]
            rounds = chain.from_iterable(zip_longest(*lines))
            ordered += [sequence for sequence in rounds if sequence is not None]
        return ordered

    def note(self, batches: Iterable[Batch]) -> None:
        """Takes in who had a turn."""
        self._turn += 1
        for batch in batches:
            if batch.phase is not Phase.DECODE:
                for span in batch.spans:
                    self._last[span.sequence.group.request.principal] = self._turn
