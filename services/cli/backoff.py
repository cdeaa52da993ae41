"""How long to wait before a program that died is started again."""

from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Doubles the wait after each death; a run that lasted starts it over."""

    first_s: float = 0.5
    most_s: float = 30.0
    settled_s: float = 30.0
    """A run of at least this long counts as good."""
    deaths: int = field(default=0, init=False)
    """Deaths in a row without a good run between them."""

    def died(self, ran_s: float) -> float:
        """Counts a death after a run of `ran_s` and returns the seconds to wait."""
        if ran_s >= self.settled_s:
            self.deaths = 0
        self.deaths += 1
        doublings = min(self.deaths - 1, 30)
        return min(self.first_s * 2.0**doublings, self.most_s)
