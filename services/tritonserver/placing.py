"""Which endpoint takes a call: the one with the fewest outstanding, or where its prefix is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from services.tritonserver.endpoints import Endpoint

_SLACK = 4
"""Calls that the endpoint of a prefix may have beyond twice those of the least busy one."""
_turns = count(1)


@dataclass(eq=False, slots=True)
class Place:
    """A model on one endpoint."""

    endpoint: Endpoint
    ready: bool = False
    """Whether it may be called."""
    prepared: bool = False
    """Whether it was loaded there as it is wanted: what else Triton has of its name may be the
    revision before."""
    broken: bool = False
    """Whether its process died: it has to be unloaded and loaded."""
    misses: int = 0
    """Questions in a row that were not answered in time."""
    used: float = 0.0
    """When a call succeeded last, on the event loop's clock."""
    turn: int = field(default=0)
    """When it was chosen last; among equals the longest ago goes first."""

    def chosen(self) -> "Place":
        """Notes that it is taken."""
        self.turn = next(_turns)
        return self


def choose(places: Sequence[Place], affinity: bytes) -> Place | None:
    """The place that takes the next call; None where there is none."""
    if not places:
        return None
    least = min(place.endpoint.outstanding for place in places)
    if affinity:
        home = max(places, key=lambda place: _weight(affinity, place.endpoint.address))
        if home.endpoint.outstanding <= 2 * least + _SLACK:
            return home.chosen()
    return min(places, key=lambda place: (place.endpoint.outstanding, place.turn)).chosen()


def _weight(affinity: bytes, address: str) -> bytes:
    """Ranks endpoints for a prefix: one that goes or comes moves only its own prefixes."""
    return hashlib.blake2b(affinity, key=address.encode()[:64], digest_size=8).digest()
