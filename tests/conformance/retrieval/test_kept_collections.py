"""Collections, the same in every database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from services.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from services.retrieval.records import (
    Chunking,
    CollectionChange,
    Fingerprint,
    Lookup,
    Page,
)
from tests.conformance.retrieval.records_made import (
    NOW,
    collection,
    document,
    schema,
    vector,
)


async def test_what_is_created_comes_back(store, tenant):
    wanted = collection(
        tenant,
        "mod::Ty’pe",
        properties=schema(n="INT64", s="STRING"),
        metadata={"k": "v", "": ""},
        expire_time=NOW + timedelta(days=1),
    )
    assert await store.create_collection(wanted) == wanted
    assert await store.collection(tenant, wanted.id) == wanted
    assert list(await store.collections(tenant, Page(10))) == [wanted]


async def test_an_id_is_taken_once_in_a_tenant(store, other, tenant):
    first, second = collection(tenant), collection(tenant)
    made = await asyncio.gather(
        store.create_collection(first), other.create_collection(second), return_exceptions=True
    )
    assert [type(result).__name__ for result in made].count("AlreadyExists") == 1
    with pytest.raises(AlreadyExists):
        await store.create_collection(collection(tenant))
    elsewhere = collection(f"{tenant}-2")
    assert await store.create_collection(elsewhere) == elsewhere


async def test_a_repeated_request_makes_one_collection(store, other, tenant):
    first, again = collection(tenant, "a"), collection(tenant, "b")
    made = await asyncio.gather(
        store.create_collection(first, "r"), other.create_collection(again, "r")
    )
    assert made[0] == made[1]
    assert len(await store.collections(tenant, Page(10))) == 1
    # Another tenant's request IDs are its own.
    foreign = collection(f"{tenant}-2", "a")
    assert await store.create_collection(foreign, "r") == foreign
    await store.delete_collection(tenant, made[0].id)
    assert (await store.create_collection(again, "r")).uid == again.uid


async def test_pages(store, tenant):
    times = {"a": 3, "b": 1, "c": 2, "d": 2, "B": 2}
    for id, seconds in times.items():
        made = collection(tenant, id, create_time=NOW + timedelta(seconds=seconds))
        await store.create_collection(made)
    for descending, wanted in (
        (False, ["b", "B", "c", "d", "a"]),
        (True, ["a", "d", "c", "B", "b"]),
    ):
        seen: list[str] = []
        while page := await store.collections(
            tenant, Page(2, seen[-1] if seen else "", descending)
        ):
            seen += [found.id for found in page]
        assert seen == wanted
    with pytest.raises(InvalidArgument):
        await store.collections(tenant, Page(2, "unknown"))


@pytest.mark.parametrize("descending", [True, False])
async def test_a_page_goes_on_behind_a_deleted_collection(store, tenant, descending):
    for id in "abcde":
        await store.create_collection(collection(tenant, id))
    later = collection(tenant, "A", create_time=NOW + timedelta(seconds=1))
    await store.create_collection(later)
    await store.delete_collection(tenant, "c")
    with pytest.raises(InvalidArgument):
        await store.collections(tenant, Page(9, "c", descending))
    rest = await store.collections(tenant, Page(9, "c", descending, NOW))
    assert [found.id for found in rest] == (["b", "a"] if descending else ["d", "e", "A"])


async def test_changes(store, tenant, clock):
    made = await store.create_collection(collection(tenant, expire_time=NOW + timedelta(days=1)))
    clock.forward(1)
    change = CollectionChange(
        display_name="new",
        chunking=Chunking(whole_documents=True),
        properties=schema(x="BOOL"),
        metadata={},
        clears_expire_time=True,
        etag=made.etag,
    )
    changed = await store.change_collection(tenant, "c", change)
    assert changed == replace(
        made,
        display_name="new",
        chunking=Chunking(whole_documents=True),
        properties=schema(x="BOOL"),
        metadata={},
        expire_time=None,
        update_time=clock.now,
        etag=changed.etag,
    )
    assert changed.etag != made.etag
    assert await store.collection(tenant, "c") == changed
    with pytest.raises(Conflict):
        await store.change_collection(tenant, "c", CollectionChange(etag=made.etag))
    kept = await store.change_collection(tenant, "c", CollectionChange())
    assert replace(kept, etag="") == replace(changed, etag="")
    with pytest.raises(NotFound):
        await store.change_collection(tenant, "other", CollectionChange())


async def test_an_expired_collection_is_gone_at_once(store, tenant, clock):
    made = collection(tenant, expire_time=NOW + timedelta(seconds=10))
    await store.create_collection(made)
    await store.put_documents(made.uid, [document("a")])
    clock.forward(10)
    lookup = Lookup(5, vector(1, 0, 0, 0))
    for call in (
        lambda: store.collection(tenant, "c"),
        lambda: store.change_collection(tenant, "c", CollectionChange(clears_expire_time=True)),
        lambda: store.put_documents(made.uid, [document("b")]),
        lambda: store.document(made.uid, "a"),
        lambda: store.documents(made.uid, Page(5), with_text=False),
        lambda: store.fingerprints(made.uid, ["a"]),
        lambda: store.update_documents(made.uid, {}),
        lambda: store.delete_documents(made.uid, ids=["a"]),
        lambda: store.search(made, lookup),
        lambda: store.delete_collection(tenant, "c"),
    ):
        with pytest.raises(NotFound):
            await call()
    assert list(await store.collections(tenant, Page(10))) == []
    assert (tenant, "c") in await store.expired(clock.now)
    # Its ID is free, and the sweep that saw the old one spares the new one.
    anew = await store.create_collection(collection(tenant))
    with pytest.raises(NotFound):
        await store.delete_collection(tenant, "c", expired=clock.now)
    assert await store.collection(tenant, "c") == anew
    assert (tenant, "c") not in await store.expired(clock.now)
    assert list(await store.documents(anew.uid, Page(5), with_text=False)) == []


async def test_the_sweep_deletes(store, tenant, clock):
    made = collection(tenant, expire_time=NOW + timedelta(seconds=1))
    await store.create_collection(made)
    with pytest.raises(NotFound):
        await store.delete_collection(tenant, "c", expired=clock.now)
    clock.forward(1)
    await store.delete_collection(tenant, "c", expired=clock.now)
    assert (tenant, "c") not in await store.expired(clock.now)


async def test_a_delete_takes_everything_and_ends_what_is_under_way(store, other, tenant):
    made = await store.create_collection(collection(tenant))
    await store.put_documents(made.uid, [document("a")])
    lookup = Lookup(5, vector(1, 0, 0, 0))
    assert len(await other.search(made, lookup)) == 1
    await store.delete_collection(tenant, "c")
    with pytest.raises(NotFound):
        await store.delete_collection(tenant, "c")
    anew = await store.create_collection(collection(tenant))
    for call in (
        lambda: other.put_documents(made.uid, [document("b")]),
        lambda: other.update_documents(made.uid, {}),
        lambda: other.delete_documents(made.uid, ids=["a"]),
        lambda: other.search(made, lookup),
        lambda: other.document(made.uid, "a"),
    ):
        with pytest.raises(NotFound):
            await call()
    await other.touch_collection(made.uid, NOW)  # nobody waits for it
    assert list(await other.search(anew, lookup)) == []


async def test_searches_are_noted(store, tenant):
    made = await store.create_collection(collection(tenant))
    for seconds in (5, 3):
        await store.touch_collection(made.uid, NOW + timedelta(seconds=seconds))
    found = await store.collection(tenant, "c")
    assert found.last_search_time == NOW + timedelta(seconds=5)
    assert found.etag == made.etag


async def test_what_is_used_lives_on(store, tenant, clock):
    day = timedelta(days=1)
    made = await store.create_collection(collection(tenant, expire_after=day))
    assert (made.expire_after, made.expire_time) == (day, NOW + day)

    async def end() -> datetime:
        return (await store.collection(tenant, "c")).expire_time

    for act in (
        lambda: store.put_documents(made.uid, [document("a")]),
        lambda: store.update_documents(
            made.uid, {"a": Fingerprint("x", "t", "text/plain", {}, "")}
        ),
        lambda: store.delete_documents(made.uid, ids=["a"]),
        lambda: store.change_collection(tenant, "c", CollectionChange(display_name="new")),
        lambda: store.touch_collection(made.uid, clock.now),
    ):
        clock.forward(60 * 60 * 23)
        await act()
        assert await end() == clock.now + day
    await store.touch_collection(made.uid, clock.now - timedelta(hours=1))
    assert await end() == clock.now + day
    found = await store.collection(tenant, "c")
    assert found.last_search_time == clock.now
    clock.forward(60 * 60 * 24)
    with pytest.raises(NotFound):
        await store.collection(tenant, "c")
    assert (tenant, "c") in await store.expired(clock.now)
    await store.delete_collection(tenant, "c", expired=clock.now)
    assert (tenant, "c") not in await store.expired(clock.now)


async def test_a_search_puts_off_no_end_that_was_set(store, tenant, clock):
    end = NOW + timedelta(seconds=9)
    made = await store.create_collection(collection(tenant, expire_time=end))
    endless = await store.create_collection(collection(tenant, "endless"))
    for uid in (made.uid, endless.uid):
        await store.touch_collection(uid, NOW + timedelta(seconds=5))
        await store.put_documents(uid, [document("a")])
    assert (await store.collection(tenant, "c")).expire_time == end
    assert (await store.collection(tenant, "endless")).expire_time is None


DAY, WEEK = timedelta(days=1), timedelta(days=7)


@pytest.mark.parametrize(
    ("before", "change", "after", "end"),
    [
        ({"expire_after": DAY}, {"expire_after": WEEK}, WEEK, NOW + WEEK),
        ({"expire_after": DAY}, {"clears_expire_after": True}, None, None),
        (
            {"expire_after": DAY},
            {"clears_expire_after": True, "expire_time": NOW + WEEK},
            None,
            NOW + WEEK,
        ),
        ({"expire_after": DAY}, {"expire_time": NOW + WEEK}, DAY, None),
        ({"expire_after": DAY}, {"clears_expire_time": True}, DAY, None),
        ({"expire_after": DAY}, {"expire_after": WEEK, "expire_time": NOW + WEEK}, DAY, None),
        ({"expire_time": NOW + DAY}, {"clears_expire_after": True}, None, NOW + DAY),
        ({"expire_time": NOW + DAY}, {"expire_after": WEEK}, WEEK, NOW + WEEK),
        ({}, {"expire_after": WEEK}, WEEK, NOW + WEEK),
        ({}, {"clears_expire_after": True, "clears_expire_time": True}, None, None),
    ],
)
async def test_how_an_end_is_changed(store, tenant, before, change, after, end):
    made = await store.create_collection(collection(tenant, **before))
    call = store.change_collection(tenant, "c", CollectionChange(**change))
    if after is not None and end is None:
        with pytest.raises(InvalidArgument) as raised:
            await call
        assert raised.value.field == "collection.expire_time"
        assert await store.collection(tenant, "c") == made
        return
    changed = await call
    assert (changed.expire_after, changed.expire_time) == (after, end)
    assert await store.collection(tenant, "c") == changed
