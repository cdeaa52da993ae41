"""Page tokens: they come back as they were, and nothing else is taken for one."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.page_tokens import Place, decode, encode

IDS = st.text(min_size=1).filter(lambda text: "\0" not in text)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
QUERIES = st.lists(st.text(), max_size=3)


@given(IDS, TIMES, QUERIES)
def test_tokens_come_back(id: str, time: datetime | None, query: list[str]) -> None:
    assert decode(encode(Place(id, time), query), query) == Place(id, time)


def test_no_token_is_the_first_page() -> None:
    assert decode("", ["models"]) == Place("")


@given(st.text(min_size=1, max_size=40) | st.binary(min_size=1).map(repr))
def test_what_no_list_gave_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(token, ["models"])
    assert caught.value.field == "page_token"


@given(QUERIES, QUERIES)
def test_tokens_belong_to_their_list(query: list[str], other: list[str]) -> None:
    token = encode(Place("a"), query)
    if query == other:
        assert decode(token, other).id == "a"
        return
    with pytest.raises(InvalidArgument, match="another list") as caught:
        decode(token, other)
    assert caught.value.field == "page_token"


@pytest.mark.parametrize("place", [Place("a\0"), Place("\0")])
def test_what_databases_can_not_keep_is_refused(place: Place) -> None:
    with pytest.raises(InvalidArgument):
        decode(encode(place, []), [])


@pytest.mark.parametrize("micros", ["x", "9" * 30, "-" + "9" * 30, "1e5", "\u00b2"])
def test_times_that_are_none_are_refused(micros: str) -> None:
    token = base64.urlsafe_b64encode(json.dumps(["a", micros]).encode()).rstrip(b"=").decode()
    with pytest.raises(InvalidArgument):
        decode(token, [])
