"""Attention memory of adapters: found by the same adapter's sequences and no others'."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import FailedPrecondition
from services.inference.engines.adapters import AdapterLimits, AdapterRoll
from services.inference.engines.prefix_index import BLOCK, KvRow, PrefixIndex

ADAPTERS = st.sampled_from(["", "a#1", "b#2"])
TOKENS = st.lists(st.integers(0, 1), min_size=3 * BLOCK, max_size=3 * BLOCK)


@given(st.lists(st.tuples(ADAPTERS, TOKENS), max_size=8), ADAPTERS, TOKENS)
def test_only_rows_of_the_same_adapter_are_found(
    rows: list[tuple[str, list[int]]], adapter: str, wanted: list[int]
) -> None:
    index = PrefixIndex()
    for place, (owner, tokens) in enumerate([*rows, ("", wanted), ("b#2", wanted)]):
        index.note(KvRow(place, tokens, None, owner, len(tokens)), len(tokens))
    found = index.find(wanted, len(wanted), lambda row: row.length, adapter)
    if adapter == "a#1" and not any(
        owner == adapter and tokens[:BLOCK] == wanted[:BLOCK] for owner, tokens in rows
    ):
        assert found is None
    else:
        assert found is not None
        assert found.row.adapter == adapter
        assert found.row.tokens[: found.length] == wanted[: found.length]


def test_keys_that_collide_find_nothing_of_another_adapter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.inference.engines.prefix_index._key", lambda *parts: 1)
    index = PrefixIndex()
    tokens = [5] * 2 * BLOCK
    index.note(KvRow(0, tokens, None, "a#1", len(tokens)), len(tokens))
    assert index.find(tokens, len(tokens), lambda row: row.length, "b#2") is None


def test_a_roll_knows_what_is_on_it() -> None:
    roll = AdapterRoll(AdapterLimits(count=1))
    first = roll.enter("a")
    second = roll.enter("a")
    assert first != second
    with pytest.raises(FailedPrecondition, match="serves 1 adapters"):
        roll.enter("b")
    roll.strike(first)
    roll.strike(second)
    assert first not in roll
    assert roll.enter("a") not in (first, second)
