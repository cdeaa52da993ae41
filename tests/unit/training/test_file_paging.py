"""Page tokens of lists in TrainingService."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.page_tokens import Place
from services.training.paging import Asked, begin, end

QUERY = ["files", "", "me"]
TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def token(query: list[str] = QUERY, *, descending: bool = True) -> str:
    asked = Asked(1, descending=descending)
    page = begin(asked, query, default_size=10, most=100)
    places = [Place("a", TIME), Place("b", TIME)]
    return end(["a", "b"], places, page, asked, query).next_page_token


def test_a_token_says_where_the_next_page_begins() -> None:
    page = begin(Asked(5, token()), QUERY, default_size=10, most=100)
    assert (page.after, page.after_time, page.size, page.descending) == ("a", TIME, 6, True)


def test_a_place_may_be_without_its_time() -> None:
    asked = Asked(1)
    page = begin(asked, QUERY, default_size=10, most=100)
    listing = end(["a", "b"], [Place("a"), Place("b")], page, asked, QUERY)
    page = begin(Asked(1, listing.next_page_token), QUERY, default_size=10, most=100)
    assert (page.after, page.after_time) == ("a", None)


@pytest.mark.parametrize(("asked", "size"), [(0, 11), (3, 4), (100, 101), (10**9, 101)])
def test_sizes(asked: int, size: int) -> None:
    assert begin(Asked(asked), QUERY, default_size=10, most=100).size == size


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (Asked(-1), "page_size"),
        (Asked(token=token(), after="a"), "after"),
        (Asked(token=token(), descending=False), "page_token"),
        (Asked(token=token(["files", "batch", "me"])), "page_token"),
        (Asked(token=token(["files", "", "you"])), "page_token"),
        (Asked(token=token()[:-3]), "page_token"),
    ],
)
def test_what_does_not_fit_is_refused(asked: Asked, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        begin(asked, QUERY, default_size=10, most=100)
    assert caught.value.field == field


@settings(deadline=None)
@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda raw: raw.decode("latin-1")))
def test_other_texts_are_no_tokens(text: str) -> None:
    with pytest.raises(InvalidArgument):
        begin(Asked(token=text), QUERY, default_size=10, most=100)
