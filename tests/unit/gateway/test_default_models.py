from __future__ import annotations

from typing import Any

import pytest
from penstock.model.v1 import model_pb2

from gateway.default_models import first_serving
from policy.principals import ANONYMOUS, Principal, Role

READY = model_pb2.Model.STATE_READY


def model(name: str, created: int = 1, **more: Any) -> model_pb2.Model:
    made = model_pb2.Model(name=f"models/{name}", **({"state": READY} | more))
    made.create_time.seconds = created
    return made


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([], None),
        ([model("b"), model("a")], "models/a"),
        ([model("a", 2), model("b", 1)], "models/b"),
        ([model("ft:a", 1, base_model="b"), model("b", 2)], "models/b"),
        ([model("ft:a", 1, base_model="b")], "models/ft:a"),
        ([model("a", state=model_pb2.Model.STATE_DEPLOYING), model("b", 2)], "models/b"),
        ([model("a", state=model_pb2.Model.STATE_FAILED)], None),
        # While its next revision loads, the one before answers.
        (
            [
                model("a", state=model_pb2.Model.STATE_DEPLOYING, serving_revisions=["r"]),
                model("b", 2),
            ],
            "models/a",
        ),
    ],
)
def test_which_model_is_the_default(models: list[model_pb2.Model], expected: str | None) -> None:
    found = first_serving(models, ANONYMOUS)
    assert (found.name if found is not None else None) == expected


def test_callers_get_one_that_they_may_use() -> None:
    models = [model("a", 1), model("b", 2, aliases=["mine"])]
    for allowed, expected in (("b", "models/b"), ("mi*", "models/b"), ("*", "models/a")):
        who = Principal("k", "k", frozenset({Role.USER}), allowed_models=(allowed,))
        found = first_serving(models, who)
        assert found is not None
        assert found.name == expected
    nobody = Principal("k", "k", frozenset({Role.USER}), allowed_models=("other",))
    assert first_serving(models, nobody) is None
