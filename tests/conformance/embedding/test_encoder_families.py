"""The torch engine beside transformers' own code, one input at a time, for each architecture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.embedding.engine import Encoder
from services.embedding.engines.packed_facts import FAMILIES
from services.embedding.engines.torch_loader import TorchLoader
from services.embedding.engines.torch_settings import TorchSettings
from tests.conformance.embedding.conftest import Load
from tests.conformance.embedding.reference import Reference, cosines, inputs, matrix
from tests.conformance.embedding.tiny_encoders import (
    PACKED,
    PADDED,
    TEXTS,
    add_modules,
    save_encoder,
)

TORCH = TorchLoader(TorchSettings(device="cpu"))
TRANSFORMERS = TorchLoader(TorchSettings(device="cpu", encoder="transformers"))
LEAST_COSINE = {"float32": 1 - 1e-6, "bfloat16": 0.999}


def packed(encoder: Encoder) -> bool:
    return "_packed_" in encoder.info.build


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folders of families, each with mean pooling, made once."""
    made: dict[tuple[str, int], Path] = {}

    def folder(family: str, labels: int = 0) -> Path:
        if (family, labels) not in made:
            path = save_encoder(
                tmp_path_factory.mktemp("families") / f"{family}-{labels}", family, labels=labels
            )
            if not labels:
                add_modules(path, ("Pooling", "1_Pooling"), pooling={"pooling_mode": "mean"})
            made[family, labels] = path
        return made[family, labels]

    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [*PACKED, *PADDED])
async def test_vectors_are_the_reference_s(tiny: Any, load: Load, family: str, dtype: str) -> None:
    encoder = await load(TORCH, tiny(family), dtype=dtype)
    assert packed(encoder) == (family in PACKED)
    texts = [*TEXTS, " ".join(TEXTS)]
    batch = [
        replace(each, ids=each.ids[: encoder.info.context_length])
        for each in inputs(encoder, texts)
    ]
    own = matrix(await encoder.encode(batch, normalize=False))
    expected = Reference(tiny(family)).mean(batch)
    assert cosines(own, expected).min() >= LEAST_COSINE[dtype]
    if dtype == "float32":
        assert np.abs(own - expected).max() < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "mpnet", "electra", "modernbert", "qwen3"]
)
async def test_scores_are_the_reference_s(tiny: Any, load: Load, family: str, dtype: str) -> None:
    encoder = await load(TORCH, tiny(family, 1), dtype=dtype, scores_pairs=True)
    assert packed(encoder) == (family in PACKED and bool(FAMILIES[family].head))
    text = encoder.text
    query, *documents = text.encode(["What color is the sky?", *TEXTS])
    room = encoder.info.context_length - text.overhead(pair=True) - len(query)
    pairs = [text.pair(query, document[:room]) for document in documents]
    scores = await encoder.score(pairs)
    reference = Reference(tiny(family, 1), scores_pairs=True)
    expected = [reference.score(pair, types=family in ("bert", "electra")) for pair in pairs]
    assert scores == pytest.approx(expected, abs=1e-4 if dtype == "float32" else 3e-2)


async def test_transformers_code_gives_the_same_when_it_is_asked_for(tiny: Any, load: Load) -> None:
    own, theirs = [await load(loader, tiny("bert")) for loader in (TORCH, TRANSFORMERS)]
    assert (packed(own), packed(theirs)) == (True, False)
    batch = inputs(own, TEXTS)
    vectors = [matrix(await each.encode(batch, normalize=True)) for each in (own, theirs)]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-5


async def test_a_packed_encoder_that_computes_something_else_is_not_taken(
    tiny: Any, load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(FAMILIES, "bert", replace(FAMILIES["bert"], first_position=1))
    encoder = await load(TORCH, tiny("bert"), context_length=64)
    assert not packed(encoder)
    assert "it runs on transformers' code" in caplog.text
    batch = inputs(encoder, TEXTS[:3])
    own = matrix(await encoder.encode(batch, normalize=False))
    assert np.abs(own - Reference(tiny("bert")).mean(batch)).max() < 1e-4


async def test_a_layout_that_does_not_fit_is_not_taken(
    tiny: Any, load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(FAMILIES, "bert", replace(FAMILIES["bert"], up="nowhere"))
    assert not packed(await load(TORCH, tiny("bert")))
    assert "can't run this bert model" in caplog.text


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"hidden_act": "mish"}),
        ("bert", {"is_decoder": True}),
        ("ernie", {"use_task_id": True}),
    ],
)
async def test_options_that_are_not_covered_run_on_transformers_code(
    tmp_path: Path, load: Load, family: str, changes: dict[str, Any]
) -> None:
    folder = save_encoder(tmp_path, family, **changes)
    add_modules(folder, ("Pooling", "1_Pooling"), pooling={"pooling_mode": "mean"})
    encoder = await load(TORCH, folder)
    assert not packed(encoder)
    batch = inputs(encoder, TEXTS[:3])
    own = matrix(await encoder.encode(batch, normalize=False))
    assert np.abs(own - Reference(folder).mean(batch)).max() < 1e-4
