import base64
import json
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.page_tokens import Place
from services.retrieval import paging
from services.retrieval.paging import Asked, Listing

QUERY = ["things", "t"]
IDS = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=30)


TIMES = st.none() | st.datetimes(timezones=st.just(UTC))


def places(ids: Iterable[str]) -> list[Place]:
    return [Place(id) for id in ids]


def pages(ids: list[str], size: int, sizes: dict[str, int] | None = None) -> list[list[str]]:
    """Every page of a list, as a store would give them."""
    found: list[list[str]] = []
    token = ""
    while True:
        asked = Asked(size, token)
        page = paging.begin(asked, QUERY, 3)
        begin = ids.index(page.after) + 1 if page.after else 0
        items = ids[begin : begin + page.size]
        listing = paging.end(items, places(items), page, asked, QUERY)
        if sizes is not None:
            each = [sizes[id] for id in listing.items]
            listing = paging.cut(listing, each, places(listing.items), asked, QUERY)
        found.append(list(listing.items))
        token = listing.next_page_token
        if not token:
            return found


@given(IDS, st.integers(0, 7))
def test_pages_hold_everything_once_and_in_order(ids: list[str], size: int) -> None:
    ids = [id for id in ids if "\0" not in id]
    found = pages(ids, size)
    assert [id for page in found for id in page] == ids
    assert all(len(page) == (size or 3) for page in found[:-1])
    assert len(found) == max(1, -(-len(ids) // (size or 3)))


@given(st.lists(st.integers(0, paging.MAX_PAGE_BYTES * 2), max_size=12))
def test_pages_end_before_they_are_too_large(lengths: list[int]) -> None:
    ids = [str(number) for number in range(len(lengths))]
    sizes = dict(zip(ids, lengths, strict=True))
    found = pages(ids, 5, sizes)
    assert [id for page in found for id in page] == ids
    for page in found:
        assert len(page) <= 1 or sum(sizes[id] for id in page) <= paging.MAX_PAGE_BYTES


@pytest.mark.parametrize("size", [1001, 10**9])
def test_a_page_has_a_thousand_items_at_most(size: int) -> None:
    assert paging.begin(Asked(size), QUERY, 20).size == 1001


def test_a_token_belongs_to_its_list() -> None:
    asked = Asked(1)
    page = paging.begin(asked, QUERY, 1)
    listing = paging.end(["a", "b"], places("ab"), page, asked, QUERY)
    token = listing.next_page_token
    assert paging.begin(Asked(1, token), QUERY, 1).after == "a"
    for other in (
        lambda: paging.begin(Asked(1, token, descending=False), QUERY, 1),
        lambda: paging.begin(Asked(1, token), ["things", "other"], 1),
        lambda: paging.begin(Asked(-1), QUERY, 1),
    ):
        with pytest.raises(InvalidArgument):
            other()


@given(st.text(min_size=1).filter(lambda id: "\0" not in id), TIMES)
def test_a_token_says_where_its_item_stood(id: str, time: datetime | None) -> None:
    asked = Asked(1)
    here = [Place(id, time), Place("next")]
    token = paging.end([1, 2], here, paging.begin(asked, QUERY, 1), asked, QUERY).next_page_token
    page = paging.begin(Asked(1, token), QUERY, 1)
    assert (page.after, page.after_time) == (id, time)


def test_by_the_id_alone_only_the_store_knows_where_it_stood() -> None:
    page = paging.begin(Asked(1, after="a"), QUERY, 1)
    assert (page.after, page.after_time) == ("a", None)


@pytest.mark.parametrize("time", ["x", "1.5", "9" * 30, "-" + "9" * 30, "9" * 5000, "nan"])
def test_a_token_with_no_instant_is_refused(time: str) -> None:
    packed = json.dumps(["a", time, *QUERY, "desc"]).encode()
    token = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
    with pytest.raises(InvalidArgument) as raised:
        paging.begin(Asked(1, token), QUERY, 1)
    assert raised.value.field == "page_token"


@given(st.text(max_size=40))
def test_any_text_is_a_token_or_refused(token: str) -> None:
    try:
        page = paging.begin(Asked(1, token), QUERY, 1)
    except InvalidArgument as error:
        refused = error.field
    else:
        refused = "page_token"
        assert not token
        assert not page.after
    assert refused == "page_token"


def test_a_list_without_items_is_one_page() -> None:
    asked = Asked()
    page = paging.begin(asked, QUERY, 20)
    assert paging.end([], [], page, asked, QUERY) == Listing([], "")
