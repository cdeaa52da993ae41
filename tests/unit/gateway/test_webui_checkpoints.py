"""Checkpoints are found by every name that WebUI clients have for them."""

from __future__ import annotations

import pytest
from penstock.image.v1 import sampler_pb2

from gateway.dialects.webui.checkpoints import model_of, title_of


def checkpoint(model: str, sha256: str, *, loaded: bool = False) -> sampler_pb2.Checkpoint:
    return sampler_pb2.Checkpoint(
        model=model,
        title=f"{model}.safetensors [{sha256[:10]}]",
        checkpoint_name=model,
        short_hash=sha256[:10],
        sha256=sha256,
        filename=f"{model}-file",
        loaded=loaded,
    )


A, B = "a1" * 32, "b2" * 32
KNOWN = [
    checkpoint("one", A),
    checkpoint("two", B),
    checkpoint("twin", B, loaded=True),
]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("one", "one"),
        ("ONE", "one"),
        (" one.safetensors [a1a1a1a1a1] ", "one"),
        ("one-file", "one"),
        ("a1a1a1a1a1", "one"),
        (A, "one"),
        ("a1a1a1a1", "one"),
        ("renamed [a1a1a1a1a1]", "one"),
        ("renamed.ckpt[a1a1a1]", "one"),
        ("two [a1a1a1a1a1]", "one"),
        ("two [b2b2b2b2b2]", "two"),
        ("twin [b2b2b2b2b2]", "twin"),
        ("two [ffffffffff]", "two"),
        # Nobody's, and of several: the service says so.
        ("b2b2b2b2b2", "b2b2b2b2b2"),
        ("other [b2b2b2b2b2]", "other [b2b2b2b2b2]"),
        ("other", "other"),
        ("a1", "a1"),
        ("", ""),
        ("[", "["),
    ],
)
def test_names(name: str, model: str) -> None:
    assert model_of(name, KNOWN) == model


def test_titles() -> None:
    assert title_of("one", KNOWN) == ("one.safetensors [a1a1a1a1a1]", A)
    assert title_of("", KNOWN) == ("twin.safetensors [b2b2b2b2b2]", B)
    assert title_of("", KNOWN[:2]) == ("one.safetensors [a1a1a1a1a1]", A)
    assert title_of("gone", KNOWN) == ("gone", "")
    assert title_of("", []) == ("", "")
