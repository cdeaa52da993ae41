"""Decode steps as CUDA graphs compute what the same steps compute as they come."""

import pytest
import torch

from services.inference.engines import static_decode
from services.inference.engines.cuda_graphs import CudaGraphs, choose_recorder
from services.inference.engines.memory_ops import Kept, Resize
from services.inference.engines.static_decode import EAGER_USES, Shape
from tests.unit.inference.engines.decode_pair import COLUMNS, ROWS, Pair


def test_processors_have_none() -> None:
    assert choose_recorder(torch.device("cpu"), cuda_graphs=True) is None


def test_they_can_be_switched_off() -> None:
    assert choose_recorder(torch.device("cuda:0"), cuda_graphs=False) is None


@pytest.mark.gpu
@pytest.mark.parametrize("variant", ["llama", "qwen3", "gemma2", "gpt2", "qwen2-hybrid"])
def test_graphs_compute_the_same(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shapes in turn, a resize that drops them, and the same shapes again."""
    monkeypatch.setattr(static_decode, "LEAST_LENGTH", 1)
    recorder = choose_recorder(torch.device("cuda"), cuda_graphs=True)
    assert isinstance(recorder, CudaGraphs)
    pair = Pair(recorder, variant, device="cuda")
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(3, 11, 5, 8, 7)
    for _ in range(EAGER_USES + 2):
        pair.decode(5)
        pair.decode(2)
        pair.decode(1)
    assert set(pair.shapes) == {Shape(6, 32), Shape(2, 32), Shape(1, 32)}
    pair.operate(Resize(ROWS, 96, tuple(Kept(row, row, 32) for row in range(5))))
    for _ in range(EAGER_USES + 3):
        pair.decode(5)
        pair.decode(1)
    assert pair.shapes
    pair.recording.release()
    pair.plain.release()
