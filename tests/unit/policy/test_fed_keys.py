"""Keys of a feed, against a plain list of them: whatever is told, in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.access.v1 import key_pb2 as pb
from penstock.access.v1 import key_service_pb2 as service_pb

from policy.fed_keys import FedKeys
from policy.following import hear
from policy.principals import Limits, Role

IDS = ("key_a", "key_b", "key_c")
USERS = ("", "alice", "bob")
TENANTS = ("acme", "beta", "*")

keys = st.builds(
    lambda id, version, user, tenants: pb.Key(
        name=f"keys/{id}",
        sha256=f"{id}-{version}",
        gel_user=user,
        tenants=tenants,
        roles=[pb.ROLE_USER, pb.ROLE_TRAINER, 99],
        limits=pb.Limits(tokens_per_day=0),
    ),
    st.sampled_from(IDS),
    st.integers(0, 1),
    st.sampled_from(USERS),
    st.lists(st.sampled_from(TENANTS), unique=True, max_size=2),
)
words = st.one_of(
    st.lists(keys, max_size=3, unique_by=lambda key: key.name).map(
        lambda all: service_pb.WatchKeysEvent(snapshot=service_pb.WatchKeysEvent.Snapshot(keys=all))
    ),
    keys.map(lambda key: service_pb.WatchKeysEvent(changed=key)),
    st.sampled_from(IDS).map(lambda id: service_pb.WatchKeysEvent(deleted=f"keys/{id}")),
    st.just(service_pb.WatchKeysEvent()),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(words, max_size=8))
def test_what_is_told_is_known(told: list[Any]) -> None:
    book, model, known = FedKeys(), {}, False
    for word in told:
        hear(word, book)
        match word.WhichOneof("event"):
            case "snapshot":
                model = {key.name.removeprefix("keys/"): key for key in word.snapshot.keys}
                known = True
            case "changed":
                model[word.changed.name.removeprefix("keys/")] = word.changed
            case "deleted":
                model.pop(word.deleted.removeprefix("keys/"), None)
        assert book.known == known
        assert len(book) == len(model)
        for id in IDS:
            key = model.get(id)
            of_id = book.of_id(id)
            assert [token.sha256 for token in of_id] == ([key.sha256] if key else [])
            for version in (0, 1):
                token = book.find(f"{id}-{version}")
                good = key is not None and key.sha256 == f"{id}-{version}"
                assert (token is not None) == good
                if token is not None:
                    who = token.principal
                    assert (who.id, who.roles) == (id, {Role.USER, Role.TRAINER})
                    assert who.limits == Limits(tokens_per_day=0)
        for user in USERS[1:]:
            ids = {token.principal.id for token in book.of_gel_user(user)}
            assert ids == {id for id, key in model.items() if key.gel_user == user}
        for tenant in TENANTS:
            named = any(tenant in key.tenants for key in model.values()) and tenant != "*"
            assert book.names_tenant(tenant) == named
