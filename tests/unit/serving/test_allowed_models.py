"""A model that a caller may not use does not exist for them, and is in none of their lists."""

from __future__ import annotations

import pytest

from policy.principals import Principal, Role
from services.embedding.registry import Registry as EmbeddingRegistry
from services.errors import DomainError, ModelNotFound, ModelNotReady
from services.serving.models import Known, ModelKind
from services.serving.registry import Registry

KNOWN = [
    Known("small", ModelKind.EMBEDDING, ("mini",)),
    Known("large", ModelKind.EMBEDDING, ("big", "best")),
    Known("other", ModelKind.CHAT, ()),
]


def may(*models: str):
    return Principal("k", "k", frozenset({Role.USER}), allowed_models=models).may_use


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        ((), {"small", "mini", "large", "big", "best", "models/big"}),
        (("small",), {"small", "mini"}),
        (("best",), {"large", "big", "best", "models/big"}),
        (("b*",), {"large", "big", "best", "models/big"}),
        (("mini", "lar*"), {"small", "mini", "large", "big", "best", "models/big"}),
        (("none",), set()),
    ],
)
def test_names_lead_to_what_is_allowed(allowed: tuple[str, ...], found: set[str]) -> None:
    registry = EmbeddingRegistry()
    registry.know(KNOWN)
    registry.restrict(may(*allowed))
    for name in ("small", "mini", "large", "big", "best", "models/big", "nowhere"):
        with pytest.raises(DomainError) as caught:
            registry.resolve(name)
        expected = ModelNotReady if name in found else ModelNotFound
        assert type(caught.value) is expected, name
    ids = {"small", "large"} & found
    assert {known.id for known in registry.missing()} == ids


def test_a_kind_is_not_told_of_what_is_hidden() -> None:
    registry = Registry(frozenset({ModelKind.EMBEDDING}), "it makes no vectors")
    registry.know(KNOWN)
    registry.restrict(may("small"))
    with pytest.raises(ModelNotFound):
        registry.resolve("other")
