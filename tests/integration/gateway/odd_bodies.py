"""Bodies that no client would send, made of one that it would."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "\x00", "\ud800", "\u2028", "-1", "echo", "user", "a" * 300])
    | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)

HORRORS = (
    b"",
    b"[]",
    b"5",
    b"null",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"model":NaN}',
)


def damage(draw: st.DrawFn, body: bytearray) -> None:
    """Puts other bytes in place of some of a body, which may be empty by now."""
    at = draw(st.integers(0, len(body)))
    body[at : at + draw(st.integers(0, 12))] = draw(st.binary(max_size=8))


@st.composite
def odd_bodies(draw: st.DrawFn, valid: Mapping[str, Any]) -> bytes:
    """A body with some places taken by what doesn't belong there, or with damaged bytes."""
    body = copy.deepcopy(dict(valid))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(body))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        if draw(st.booleans()):
            holder[key] = draw(_JSON)
        else:
            del holder[key]
    data = bytearray(json.dumps(body).encode())
    if draw(st.integers(0, 3)) == 0:
        damage(draw, data)
    return bytes(data)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        items: list[Any] = list(value)
    elif isinstance(value, list):
        items = list(range(len(value)))
    else:
        return
    for key in items:
        yield value, key
        yield from _places(value[key])
