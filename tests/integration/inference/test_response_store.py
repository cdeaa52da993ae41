"""Where responses are kept: the same answers from every database, and from several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect

from services.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from services.inference.identifiers import unique
from services.inference.response_records import Item, NewResponse
from services.inference.response_stores import SqlResponses
from services.inference.response_stores.tables import METADATA
from services.inference.responses import ResponseLimits, Responses
from tests.postgres_server import empty_database

START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
LIMITS = ResponseLimits(lasts=timedelta(days=30), most_responses=4, most_bytes=1000)


class Clock:
    now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'inference.db'}"
        return
    async with empty_database(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture
async def stores(database_url: str, clock: Clock) -> AsyncIterator[list[SqlResponses]]:
    """The same database, as two processes see it."""
    async with AsyncExitStack() as stack:
        opened = [SqlResponses(database_url, clock) for _ in range(2)]
        for store in opened:
            stack.push_async_callback(store.close)
        await asyncio.gather(*(store.prepare() for store in opened))
        yield opened


@pytest.fixture
def kept(stores: list[SqlResponses], clock: Clock) -> Responses:
    return Responses(stores[0], LIMITS, clock=clock)


@pytest.fixture
def elsewhere(stores: list[SqlResponses], clock: Clock) -> Responses:
    return Responses(stores[1], LIMITS, clock=clock)


def item(name: str) -> Item:
    return Item(name, f'{{"says":"{name}"}}')


def new(input: str = "a", output: str = "b", **facts: Any) -> NewResponse:
    """Items are words of the texts."""
    return NewResponse(
        **{
            "id": unique("resp_"),
            "previous": None,
            "input": [item(name) for name in input.split()],
            "output": [item(name) for name in output.split()],
            "json": '{"status":"completed","text":"\\u0000 \u2028"}',
        }
        | facts
    )


async def chain(kept: Responses, *turns: tuple[str, str], owner: str = "me") -> list[str]:
    ids: list[str] = []
    for asked, answered in turns:
        one = new(asked, answered, previous=ids[-1] if ids else None)
        ids.append((await kept.keep(one, owner)).id)
    return ids


async def words(kept: Responses, id: str, owner: str = "me") -> str:
    return " ".join(item.id for item in await kept.conversation(id, owner))


async def listed(kept: Responses, id: str, **asked: Any) -> str:
    """Turns the pages, with the page token or by the last ID."""
    by_id, descending = asked.pop("by_id", False), asked.pop("descending", False)
    found: list[str] = []
    place: dict[str, str] = {"token": "", "after": ""}
    while True:
        page = await kept.input_items(id, "me", descending=descending, **place, **asked)
        found += [item.id for item in page.items]
        if not page.next_page_token:
            return " ".join(found)
        token = "" if by_id else page.next_page_token
        place = {"token": token, "after": page.items[-1].id if by_id else ""}


async def test_what_was_kept_is_found_by_every_process(
    kept: Responses, elsewhere: Responses
) -> None:
    one = new("a b", "c d")
    made = await kept.keep(one, "me")
    assert (made.create_time, made.expire_time) == (START, START + LIMITS.lasts)
    found = await elsewhere.get(one.id, "me")
    assert found == made
    assert (found.json, [*found.output]) == (one.json, [item("c"), item("d")])
    with pytest.raises(AlreadyExists):
        await elsewhere.keep(one, "you")


async def test_others_find_nothing(kept: Responses) -> None:
    (id,) = await chain(kept, ("a", "b"))
    for owner, wanted in (("you", id), ("me", unique("resp_")), ("me", "\0"), ("me", "")):
        page: Any = {"size": 0, "token": "", "after": "", "descending": True}
        for call in (
            kept.get(wanted, owner),
            kept.delete(wanted, owner),
            kept.conversation(wanted, owner),
            kept.input_items(wanted, owner, **page),
            kept.keep(new(previous=wanted), owner),
        ):
            with pytest.raises(NotFound):
                await call
    with pytest.raises(NotFound):
        await kept.items(["a"], "you")
    assert (await kept.get(id, "me")).id == id


async def test_conversations_branch(kept: Responses) -> None:
    first, second = await chain(kept, ("a", "b"), ("c", "d"))
    branch = (await kept.keep(new("e", "f", previous=first), "me")).id
    assert await words(kept, second) == "a b c d"
    assert await words(kept, branch) == "a b e f"
    assert await listed(kept, second, size=0) == "a b c"
    assert await listed(kept, branch, size=0) == "a b e"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("by_id", [True, False])
async def test_pages_hold_everything_once(kept: Responses, size: int, by_id: bool) -> None:
    *_, last = await chain(kept, ("a b c", "d"), ("e", "f g"), ("h i", "j"))
    assert await listed(kept, last, size=size, by_id=by_id) == "a b c d e f g h i"
    backwards = await listed(kept, last, size=size, by_id=by_id, descending=True)
    assert backwards == "i h g f e d c b a"


async def test_pages_of_repeated_ids_end(kept: Responses) -> None:
    *_, last = await chain(kept, ("a b", "a"), ("b a", "c"))
    for descending in (True, False):
        found = await listed(kept, last, size=1, by_id=True, descending=descending)
        assert set(found.split()) <= {"a", "b"}
        assert 1 <= len(found.split()) <= 5
    assert await listed(kept, last, size=1) == "a b a b a"


@pytest.mark.parametrize("after", ["d", "zz", "\0", "ü"])
async def test_a_page_after_what_is_not_listed(kept: Responses, after: str) -> None:
    (id,) = await chain(kept, ("a b", "d"))
    with pytest.raises(InvalidArgument) as caught:
        await kept.input_items(id, "me", size=1, token="", after=after, descending=True)
    assert caught.value.field == "after"


async def test_tokens_belong_to_their_list(kept: Responses) -> None:
    one, two = (await chain(kept, ("a b", "c")))[0], (await chain(kept, ("a b", "c")))[0]
    page = await kept.input_items(one, "me", size=1, token="", after="", descending=True)
    for id, descending in ((two, True), (one, False)):
        with pytest.raises(InvalidArgument):
            await kept.input_items(
                id, "me", size=1, token=page.next_page_token, after="", descending=descending
            )


async def test_items_are_found_by_id(kept: Responses) -> None:
    await chain(kept, ("a b", "c"))
    await chain(kept, ("other", "x"), owner="you")
    assert [found.id for found in await kept.items(["c", "a", "c"], "me")] == ["c", "a", "c"]
    for unknown in ("x", "nothing", "\0", "ü"):
        with pytest.raises(NotFound) as caught:
            await kept.items(["a", unknown], "me")
        assert caught.value.field == "item_ids[1]"


async def test_the_latest_item_of_an_id_counts(kept: Responses, clock: Clock) -> None:
    await kept.keep(new(input="a", output=""), "me")
    clock.now += timedelta(seconds=1)
    changed = NewResponse(unique("resp_"), None, [Item("a", '{"new":true}')], [], "{}")
    await kept.keep(changed, "me")
    (found,) = await kept.items(["a"], "me")
    assert found.json == '{"new":true}'


async def test_deleting_breaks_only_what_comes_after(kept: Responses, elsewhere: Responses) -> None:
    first, second, third = await chain(kept, ("a", "b"), ("c", "d"), ("e", "f"))
    await kept.delete(second, "me")
    with pytest.raises(NotFound):
        await elsewhere.delete(second, "me")
    with pytest.raises(NotFound):
        await elsewhere.items(["c"], "me")
    assert await words(elsewhere, first) == "a b"
    with pytest.raises(FailedPrecondition):
        await elsewhere.conversation(third, "me")
    assert (await elsewhere.get(third, "me")).previous == second
    assert await listed(elsewhere, third, size=0) == "e"


async def test_responses_expire(kept: Responses, stores: list[SqlResponses], clock: Clock) -> None:
    (first,) = await chain(kept, ("a", "b"))
    clock.now += timedelta(days=1)
    second = (await kept.keep(new("c", "d", previous=first), "me")).id
    clock.now = START + LIMITS.lasts - timedelta(microseconds=1)
    assert await words(kept, second) == "a b c d"
    assert await stores[0].sweep() == 0
    clock.now += timedelta(microseconds=1)
    with pytest.raises(NotFound):
        await kept.get(first, "me")
    with pytest.raises(NotFound):
        await kept.items(["a"], "me")
    with pytest.raises(FailedPrecondition):
        await kept.conversation(second, "me")
    assert await stores[1].sweep() == 1
    assert await stores[0].sweep() == 0
    assert (await kept.get(second, "me")).id == second


async def test_sweeping_goes_on_after_a_failure(stores: list[SqlResponses], clock: Clock) -> None:
    swept = asyncio.Event()
    outcomes = iter((Unavailable("away"), RuntimeError("unforeseen"), 1, 0))

    class Failing:
        async def sweep(self) -> int:
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome == 0:
                swept.set()
            return outcome

    responses = Responses(Failing(), LIMITS, clock=clock)  # type: ignore[arg-type]
    task = asyncio.create_task(responses.keep_swept(0.001))
    await swept.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_conversations_end_somewhere(kept: Responses) -> None:
    turns = [("a", "b")] * LIMITS.most_responses
    *_, before, last = await chain(kept, *turns)
    assert len(await kept.conversation(before, "me")) == 6
    with pytest.raises(FailedPrecondition, match="too long"):
        await kept.conversation(last, "me")
    large = NewResponse(unique("resp_"), None, [Item("a", f'{{"t":"{"x" * 1000}"}}')], [], "{}")
    await kept.keep(large, "me")
    with pytest.raises(FailedPrecondition, match="too long"):
        await kept.conversation(large.id, "me")
    assert (await kept.get(large.id, "me")).id == large.id


@pytest.mark.parametrize("text", ["[]", "nonsense", "", '{"a":"\0"}', "{" * 100_000])
async def test_only_objects_are_kept(kept: Responses, text: str) -> None:
    for wrong, field in (
        (new(json=text), "response.response_json"),
        (new(input=""), None),
        (
            NewResponse(unique("resp_"), None, [item("a"), Item("b", text)], [], "{}"),
            "response.input_items[1].item_json",
        ),
        (
            NewResponse(unique("resp_"), None, [], [Item("b", text)], "{}"),
            "response.output_items[0].item_json",
        ),
    ):
        if field is None:
            await kept.keep(wrong, "me")
            continue
        with pytest.raises(InvalidArgument) as caught:
            await kept.keep(wrong, "me")
        assert caught.value.field == field


async def test_responses_of_one_moment_are_all_kept(kept: Responses, elsewhere: Responses) -> None:
    every = [new("a b c", "d") for _ in range(20)]
    await asyncio.gather(*((kept, elsewhere)[n % 2].keep(one, "me") for n, one in enumerate(every)))
    for one in every:
        assert [found.id for found in (await kept.get(one.id, "me")).output] == ["d"]


def test_the_migrations_make_the_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'inference.db'}"

    async def prepared() -> None:
        store = SqlResponses(url, Clock())
        await store.prepare()
        await store.close()

    asyncio.run(prepared())
    engine = create_engine(url)
    found = inspect(engine)
    for table in METADATA.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: bool(column.nullable) for column in table.columns}
        indexes = {index["name"] for index in found.get_indexes(table.name)}
        assert indexes == {index.name for index in table.indexes}
    engine.dispose()


async def test_a_database_that_is_away_is_found_when_it_is_back(tmp_path: Path) -> None:
    blocked = tmp_path / "folder"
    blocked.mkdir()
    store = SqlResponses(f"sqlite:///{blocked}", Clock())  # a folder is no file
    with pytest.raises(Unavailable):
        await store.prepare()
    with pytest.raises(Unavailable):
        await store.items(["a"], "me")
    blocked.rmdir()
    assert await store.items(["a"], "me") == []
    await store.close()


@pytest.mark.parametrize("url", ["mysql://nowhere/x", "sqlite://", "sqlite:///:memory:"])
def test_urls_that_can_not_be_used(url: str) -> None:
    with pytest.raises(ValueError, match=r"SQLite"):
        SqlResponses(url, Clock())
