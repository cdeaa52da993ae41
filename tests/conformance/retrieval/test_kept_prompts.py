"""Prompts, and what tenants see of each other, the same in every database."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from services.errors import Conflict, InvalidArgument, NotFound
from services.retrieval.records import CollectionChange, Lookup, Page, Prompt
from tests.conformance.retrieval.records_made import NOW, collection, document, vector


def prompt(tenant: str, id: str, **changes) -> Prompt:
    messages = ({"role": "system", "content": "Context: {context}"}, {"n": [1, 2.5, None]})
    plain = Prompt(tenant, id, str(uuid.uuid4()), messages, NOW, NOW, "e1")
    return replace(plain, **changes)


async def test_prompts(store, tenant):
    made = await store.put_prompt(prompt(tenant, "b"))
    assert await store.prompt(tenant, "b") == await store.prompt(tenant, made.uid) == made
    later = NOW + timedelta(seconds=1)
    again = prompt(tenant, "b", messages=({},), create_time=later, update_time=later, etag="e2")
    with pytest.raises(Conflict):
        await store.put_prompt(again, "e0")
    replaced = await store.put_prompt(again, "e1")
    assert replaced == replace(again, uid=made.uid, create_time=made.create_time)
    with pytest.raises(Conflict):
        await store.put_prompt(prompt(tenant, "new"), "e1")
    # An ID goes before a uid.
    named = await store.put_prompt(prompt(tenant, made.uid))
    assert await store.prompt(tenant, made.uid) == named
    await store.put_prompt(prompt(tenant, "A"))
    everything = [found.id for found in await store.prompts(tenant, Page(10))]
    assert everything == sorted(["A", "b", made.uid])
    first = await store.prompts(tenant, Page(1))
    rest = await store.prompts(tenant, Page(10, first[-1].id))
    assert [found.id for found in (*first, *rest)] == everything
    behind = await store.prompts(tenant, Page(10, "a"))  # which is not there
    assert [found.id for found in behind] == [id for id in everything if id > "a"]
    for key in ("b", named.uid):
        await store.delete_prompt(tenant, key)
        with pytest.raises(NotFound):
            await store.delete_prompt(tenant, key)


async def test_tenants_never_meet(store, tenant):
    mine, yours = f"{tenant}-mine", f"{tenant}-yours"
    made = await store.create_collection(collection(mine))
    secret = await store.put_prompt(prompt(mine, "p"))
    await store.put_documents(made.uid, [document("a")])
    for call in (
        lambda: store.collection(yours, "c"),
        lambda: store.change_collection(yours, "c", CollectionChange()),
        lambda: store.delete_collection(yours, "c"),
        lambda: store.prompt(yours, "p"),
        lambda: store.prompt(yours, secret.uid),
        lambda: store.delete_prompt(yours, secret.uid),
    ):
        with pytest.raises(NotFound):
            await call()
    assert list(await store.collections(yours, Page(10))) == []
    assert list(await store.prompts(yours, Page(10))) == []
    with pytest.raises(InvalidArgument):
        await store.collections(yours, Page(10, "c"))
    assert list(await store.collections(yours, Page(10, "c", False, NOW - timedelta(1)))) == []
    assert list(await store.prompts(yours, Page(10, "a"))) == []
    # The same names, the same words: neither finds the other's, and scores tell nothing of them.
    theirs = await store.create_collection(collection(yours))
    await store.put_documents(theirs.uid, [document("a", ["other text"])])
    found = await store.search(theirs, Lookup(9, vector(1, 0, 0, 0), text="text"))
    assert [hit.text for hit in found] == ["other text"]
    with pytest.raises(NotFound):
        await store.document(theirs.uid, "b")
