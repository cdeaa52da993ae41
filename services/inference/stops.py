"""Stop texts: found across token boundaries, never let out, not even by their beginning."""

from collections.abc import Sequence


def partial_length(text: str, wanted: str) -> int:
    """Returns the length of the longest end of `text` that begins `wanted`, not all of it."""
    first = wanted[0]
    position = text.find(first, max(0, len(text) - len(wanted) + 1))
    while position >= 0:
        if wanted.startswith(text[position:]):
            return len(text) - position
        position = text.find(first, position + 1)
    return 0


class StopFilter:
    """Lets text through up to the first stop text.

    First is the one that is completed first, and among those completed by the same character the
    longest; so the result does not depend on how the text is cut into tokens.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops: tuple[str, ...] = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._held: str = ""
        self.found: str = ""
        """The stop text that was found; empty until then."""

    @property
    def held_length(self) -> int:
        """Characters withheld because a stop text may begin in them."""
        return len(self._held)

    def feed(self, text: str) -> str:
        """Takes more text and returns what is certain to lie before any stop text."""
        if self.found:
            return ""
        text = self._held + text
        cut = -1
        end = len(text) + 1
        for stop in self._stops:
            start = text.find(stop)
            stop_end = start + len(stop)
            if start >= 0 and (stop_end < end or (stop_end == end and start < cut)):
                cut, end, self.found = start, stop_end, stop
        if cut >= 0:
            self._held = ""
            return text[:cut]
        held = max((partial_length(text, stop) for stop in self._stops), default=0)
        if not held:
            self._held = ""
            return text
        self._held = text[-held:]
        return text[:-held]

    def flush(self) -> str:
        """Returns what was withheld, since no stop text can complete any more."""
        held = self._held
        self._held = ""
        return held
