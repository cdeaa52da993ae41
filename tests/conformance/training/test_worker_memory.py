"""Workers that lack memory compute less at a time, and tell when even that doesn't help."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl.trainer.sft_trainer import SFTTrainer

from services.training.folder import Metrics, Note
from services.training.journal import read_plan
from services.training.worker.memory import Settled, read_settled, settle
from tests.conformance.training.conftest import RunHere
from tests.conformance.training.worker_jobs import of, write_job

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # libraries tell each other what is to change
]


def small_device(monkeypatch: pytest.MonkeyPatch, most_tokens: int) -> list[int]:
    """Has passes over more tokens than this fail as they do on a GPU that is full; returns the
    sizes of those that were made."""
    real = SFTTrainer.compute_loss
    made: list[int] = []

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        size = inputs["input_ids"].numel()
        if size > most_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        made.append(size)
        return real(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)
    return made


def test_less_is_computed_at_a_time_and_the_same_is_learnt(
    tmp_path: Path, base: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = write_job(tmp_path / "roomy", base, batch_size=6)
    tight = write_job(tmp_path / "tight", base, batch_size=6)
    expected = run_here(roomy)
    made = small_device(monkeypatch, 150)
    ended = run_here(tight)
    assert ended.outcome == expected.outcome == "succeeded"
    assert (ended.step, ended.trained_token_count) == (
        expected.step,
        expected.trained_token_count,
    )
    assert max(made) <= 150
    assert len(made) > ended.step
    assert any("Memory" in note.message and note.level == "warn" for note in of(tight, Note))
    settled = read_settled(tight)
    assert settled is not None
    assert settled.most_tokens < (read_settled(roomy) or settled).most_tokens
    for one, other in zip(of(tight, Metrics), of(roomy, Metrics), strict=True):
        assert one.metrics == pytest.approx(other.metrics, rel=1e-4)
    ours, theirs = (
        load_file(folder.result / "adapter_model.safetensors") for folder in (tight, roomy)
    )
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5)


def test_where_nothing_helps_the_job_fails_with_that_reason(
    tmp_path: Path, base: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_job(tmp_path / "job", base)
    small_device(monkeypatch, 10)
    ended = run_here(folder)
    assert (ended.outcome, ended.code, ended.step) == ("failed", "out_of_memory", 0)
    assert "max_sequence_tokens" in ended.message
    settled = read_settled(folder)
    assert settled is not None
    assert settled.recompute


@pytest.mark.parametrize(
    ("memory_bytes", "longest", "expected"),
    [
        (2**34, 100, Settled(most_tokens=4096, recompute=False, bf16=False)),
        (2**34, 9000, Settled(most_tokens=9000, recompute=False, bf16=False)),
        (2**18, 100, Settled(most_tokens=100, recompute=True, bf16=False)),
    ],
)
def test_what_fits_follows_from_the_memory(
    tmp_path: Path, base: Path, memory_bytes: int, longest: int, expected: Settled
) -> None:
    folder = write_job(tmp_path / "job", base, memory_bytes=memory_bytes)
    model = AutoModelForCausalLM.from_pretrained(base)
    plan, device = read_plan(folder.plan), torch.device("cpu")
    assert settle(plan, model, device, longest=longest, trained=1000, bf16=False) == expected


def test_memory_that_is_free_is_enough_for_tiny_models(tmp_path: Path, base: Path) -> None:
    folder = write_job(tmp_path / "job", base)
    model = AutoModelForCausalLM.from_pretrained(base)
    plan, device = read_plan(folder.plan), torch.device("cpu")
    settled = settle(plan, model, device, longest=50, trained=1000, bf16=False)
    assert settled == Settled(most_tokens=4096, recompute=False, bf16=False)


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        ((4096, False), (150, False)),
        ((220, False), (110, False)),
        ((150, False), (100, False)),
        ((100, False), (100, True)),
        ((100, True), None),
    ],
)
def test_parts_shrink_to_one_example_before_activations_are_computed_again(
    settled: tuple[int, bool], expected: tuple[int, bool] | None
) -> None:
    smaller = Settled(most_tokens=settled[0], recompute=settled[1], bf16=False).smaller(100, 3)
    assert (smaller and (smaller.most_tokens, smaller.recompute)) == expected
