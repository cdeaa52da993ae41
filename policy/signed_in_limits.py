"""Limits of signed-in users, by what a claim of their tokens says."""

import re
from collections.abc import Iterable, Mapping, Sequence

from policy.principals import Limits

_NAMES = "|".join(Limits.__slots__)
_ENTRY = re.compile(rf"(?P<value>\S.*?)(?P<limits>(?:\s+(?:{_NAMES})=[0-9]{{1,15}})+)\s*")


def parse_limits(entries: Sequence[str]) -> dict[str, Limits]:
    """Reads `value limit=number ...`, one or more of them. Raises `ValueError`."""
    limits: dict[str, Limits] = {}
    for entry in entries:
        found = _ENTRY.fullmatch(entry)
        pairs = [pair.split("=") for pair in found["limits"].split()] if found else []
        if found is None or len({name for name, _ in pairs}) < len(pairs):
            raise ValueError(
                f"{entry!r} is not like 'value tokens_per_day=100000 concurrent_requests=4'; "
                f"limits are {', '.join(Limits.__slots__)}, each at most once"
            )
        if found["value"] in limits:
            raise ValueError(f"{found['value']!r} has limits twice")
        limits[found["value"]] = Limits(**{name: int(number) for name, number in pairs})
    return limits


def limits_for(values: Iterable[str], limits: Mapping[str, Limits]) -> Limits:
    """Returns the limits that a claim's values choose: of several, the most generous.

    What none of them limits is None: there the configuration's hold.
    """
    chosen = [limits[value] for value in values if value in limits]
    return Limits(*(_widest(getattr(one, name) for one in chosen) for name in Limits.__slots__))


def _widest(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    return 0 if 0 in known else max(known)
