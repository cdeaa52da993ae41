import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.inference.stops import StopFilter, partial_length

TEXT = st.text(alphabet="abcé ", max_size=40)
STOPS = st.lists(st.text(alphabet="abcé ", min_size=1, max_size=5), max_size=4)


def reference(text: str, stops: list[str]) -> tuple[str, str]:
    """Cuts at the stop that ends first; of those, at the longest."""
    found = [
        (position + len(stop), position, stop)
        for stop in stops
        for position in [text.find(stop)]
        if position >= 0
    ]
    if not found:
        return text, ""
    _, position, stop = min(found)
    return text[:position], stop


@given(TEXT, STOPS, st.lists(st.integers(0, 40)))
def test_deltas_add_up_to_the_text_before_the_first_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    filter = StopFilter(stops)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    out = ""
    for start, end in itertools.pairwise(edges):
        out += filter.feed(text[start:end])
        assert reference(text, stops)[0].startswith(out)
    if not filter.found:
        out += filter.flush()
    assert (out, filter.found) == reference(text, stops)


@given(TEXT, STOPS)
def test_nothing_is_withheld_that_no_stop_begins_with(text: str, stops: list[str]) -> None:
    filter = StopFilter(stops)
    filter.feed(text)
    if not filter.found and filter.held_length:
        held = text[-filter.held_length :]
        assert any(stop.startswith(held) for stop in stops)


def test_a_stop_over_three_tokens() -> None:
    filter = StopFilter(["###"])
    assert [filter.feed(token) for token in ("a#", "#", "#b")] == ["a", "", ""]
    assert filter.found == "###"


def test_a_false_beginning_is_released() -> None:
    filter = StopFilter(["abd"])
    assert filter.feed("ab") == ""
    assert filter.feed("ab") == "ab"
    assert filter.flush() == "ab"


def test_partial_length_is_that_of_the_longest_beginning() -> None:
    assert partial_length("xaa", "aab") == 2
    assert partial_length("xaab", "aab") == 0
    assert partial_length("", "a") == 0
