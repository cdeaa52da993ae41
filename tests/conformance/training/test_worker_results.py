"""What workers make of jobs: what they tell, and weights that the engines serve."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.inference.engines.hf_text import HFText
from services.training.examples import Format, read
from services.training.folder import (
    COMPLETE,
    Chosen,
    Dropped,
    JobFolder,
    LoraPlan,
    Metrics,
    Progress,
    Saved,
    Started,
)
from services.training.worker.rows import RowMaker
from services.weights.chat_text import ChatText
from services.weights.folder import ModelFolder
from tests.conformance.recorder import sequence, submit
from tests.conformance.test_adapters import load
from tests.conformance.training.conftest import RunHere
from tests.conformance.training.worker_jobs import (
    COMPLETIONS,
    PREFERENCES,
    QUESTIONS,
    of,
    write_job,
)

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # libraries tell each other what is to change
]


def tokens_read(base: Path, path: Path, *, learn_all: bool = False) -> list[int]:
    """Lengths of the rows of a file, made apart from the training."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    maker = RowMaker(ChatText(tokenizer), [tokenizer.eos_token_id], [1], learn_all=learn_all)
    lengths: list[int] = []
    for example in read(path, Format.CHAT):
        lengths += [len(row.ids) for row in maker.chat(example)]  # type: ignore[arg-type]
    return lengths


def answer(model: Any, base: Path, question: str, count: int = 12) -> list[int]:
    """What a model says, by transformers, always taking the likeliest token."""
    text = HFText(AutoTokenizer.from_pretrained(base))
    ids = text.prompt([{"role": "user", "content": question}], [])
    begun = len(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[begun:]


async def test_an_adapter_is_trained_and_told_of_and_served(
    tmp_path: Path, base: Path, run_here: RunHere
) -> None:
    folder = write_job(
        tmp_path / "job",
        base,
        validation=QUESTIONS[:4],
        lora=LoraPlan(rank=4, target_modules=("q_proj", "v_proj", "up_proj")),
        learning_rate=0.02,
    )
    ended = run_here(folder)
    lengths = tokens_read(base, folder.training)
    assert (ended.outcome, ended.step) == ("succeeded", 8)
    assert ended.trained_token_count == 2 * sum(lengths)

    (started,) = of(folder, Started)
    assert (started.attempt, started.pid) == (1, os.getpid())
    (chosen,) = of(folder, Chosen)
    assert (chosen.step_count, chosen.epoch_count, chosen.batch_size) == (8, 2, 3)
    assert chosen.learning_rate == 0.02
    measured = of(folder, Metrics)
    assert [record.step for record in measured] == list(range(1, 9))
    for record in measured:
        names = {"train_loss", "train_mean_token_accuracy", "learning_rate"}
        if record.step in (4, 8):
            names |= {"valid_loss", "valid_mean_token_accuracy"}
        assert set(record.metrics) == names
        assert record.epoch == record.step / 4
    first, last = measured[3].metrics, measured[7].metrics
    assert last["valid_loss"] < first["valid_loss"]
    progress = of(folder, Progress)
    assert progress[-1].step == 8
    assert progress[-1].remaining_s == 0
    assert progress[0].remaining_s is None
    saved = of(folder, Saved)
    assert [(record.step, record.epoch) for record in saved] == [(4, 1), (8, 2)]
    assert saved[1].metrics == last

    names = ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(file.name for file in folder.result.iterdir()) == names
    config = (folder.result / names[0]).read_text()
    assert json.loads(config)["base_model_name_or_path"] == "tiny"
    assert str(tmp_path) not in config
    for step in (4, 8):  # which can't be gone on from any more, and can be served
        names_left = {file.name for file in folder.checkpoint(step).iterdir()}
        assert names_left == {*names, COMPLETE}

    plain = answer(AutoModelForCausalLM.from_pretrained(base), base, "what is 3?")
    loaded = await load(base)
    prompt = loaded.text.prompt([{"role": "user", "content": "what is 3?"}], [])
    for trained in (folder.checkpoint(4), folder.result):
        model = AutoModelForCausalLM.from_pretrained(base)
        expected = answer(PeftModel.from_pretrained(model, trained), base, "what is 3?")
        assert expected != plain
        adapted = await loaded.engine.attach("tuned", trained)
        asked = sequence(prompt, 12, ignore_eos=True, temperature=0.0)
        assert (await submit(adapted, asked).until_over()).tokens() == expected
    await loaded.engine.close()


def as_saved(base: Path, target: Path, dtype: torch.dtype) -> Path:
    """The base in another number type."""
    target.mkdir()
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            (target / file.name).write_bytes(file.read_bytes())
    tensors = {name: one.to(dtype) for name, one in load_file(base / "model.safetensors").items()}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_whole_weights_are_saved_as_the_base_was(
    tmp_path: Path, base: Path, run_here: RunHere, dtype: torch.dtype
) -> None:
    base = as_saved(base, tmp_path / "saved", dtype)
    folder = write_job(
        tmp_path / "job", base, COMPLETIONS, lora=None, examples="completion", kind="completion"
    )
    assert run_here(folder).outcome == "succeeded"
    before, after = (load_file(place / "model.safetensors") for place in (base, folder.result))
    assert set(after) == set(before)
    assert {tensor.dtype for tensor in after.values()} == {dtype}
    assert any(not torch.equal(after[name], before[name]) for name in before)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (folder.result / name).read_bytes() == (base / name).read_bytes()
    ModelFolder(folder.result)
    ModelFolder(folder.checkpoint(of(folder, Saved)[0].step))


def test_preferences_are_learnt(tmp_path: Path, base: Path, run_here: RunHere) -> None:
    folder = write_job(
        tmp_path / "job",
        base,
        PREFERENCES,
        validation=PREFERENCES[:3],
        method="dpo",
        examples="preference",
        beta=0.5,
        epoch_count=4,
        learning_rate=0.01,
    )
    ended = run_here(folder)
    assert ended.outcome == "succeeded"
    measured = of(folder, Metrics)
    first, last = measured[0].metrics, measured[-1].metrics
    assert first["train_reward_margin"] == 0  # both are as the model was
    assert last["valid_reward_margin"] > 0
    assert last["valid_reward_accuracy"] == 1
    assert last["valid_loss"] < first["train_loss"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    maker = RowMaker(ChatText(tokenizer), [tokenizer.eos_token_id], [1], learn_all=False)
    pairs = [maker.preference(one) for one in read(folder.training, Format.PREFERENCE)]  # type: ignore[arg-type]
    assert ended.trained_token_count == 4 * sum(
        2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs
    )


def test_preferences_change_whole_weights_too(
    tmp_path: Path, base: Path, run_here: RunHere
) -> None:
    folder = write_job(
        tmp_path / "job",
        base,
        PREFERENCES,
        method="dpo",
        examples="preference",
        lora=None,
        learning_rate=0.001,
    )
    assert run_here(folder).outcome == "succeeded"
    margins = [record.metrics["train_reward_margin"] for record in of(folder, Metrics)]
    assert margins[0] == 0 < margins[-1]


def test_training_goes_on_from_an_adapter(tmp_path: Path, base: Path, run_here: RunHere) -> None:
    first = write_job(tmp_path / "first", base, lora=LoraPlan(rank=2, target_modules=("q_proj",)))
    assert run_here(first).outcome == "succeeded"
    for name, lora in (("again", LoraPlan(rank=8)), ("merged", None)):
        folder = write_job(
            tmp_path / name, base, adapter_folder=str(first.result), lora=lora, epoch_count=1
        )
        assert run_here(folder).outcome == "succeeded"
        assert (
            of(folder, Metrics)[0].metrics["train_loss"]
            < of(first, Metrics)[0].metrics["train_loss"]
        )
    config = json.loads((tmp_path / "again/result/adapter_config.json").read_text())
    assert (config["r"], config["target_modules"]) == (2, ["q_proj"])
    again, old = (
        load_file(place / "adapter_model.safetensors")
        for place in (tmp_path / "again/result", first.result)
    )
    assert set(again) == set(old)
    assert (tmp_path / "merged/result/model.safetensors").is_file()


def test_long_examples_are_cut_and_old_checkpoints_dropped(
    tmp_path: Path, base: Path, run_here: RunHere
) -> None:
    long = {
        "messages": [
            {"role": "user", "content": "go on"},
            {"role": "assistant", "content": "more " * 60},
        ]
    }
    lost = {
        "messages": [
            {"role": "user", "content": "why " * 90},
            {"role": "assistant", "content": "so"},
        ]
    }
    folder = write_job(
        tmp_path / "job",
        base,
        [*QUESTIONS, long, lost],
        max_sequence_tokens=60,
        checkpoint_interval_steps=1,
        max_checkpoints=2,
        epoch_count=1,
        batch_size=5,
        target="all",
    )
    ended = run_here(folder)
    lengths = [min(60, length) for length in tokens_read(base, folder.training, learn_all=True)]
    assert ended.trained_token_count == sum(lengths)
    (chosen,) = of(folder, Chosen)
    assert chosen.max_sequence_tokens == 60
    assert "2 examples are too long" in chosen.words
    assert [record.step for record in of(folder, Saved)] == [1, 2, 3]
    assert [record.step for record in of(folder, Dropped)] == [1]
    assert {path.name for path in folder.checkpoints.iterdir()} == {"step-2", "step-3"}


def test_what_is_left_open_is_chosen(tmp_path: Path, base: Path, run_here: RunHere) -> None:
    open_ones: dict[str, Any] = {"epoch_count": None, "batch_size": None, "learning_rate": None}
    folder = write_job(tmp_path / "job", base, QUESTIONS[:4], **open_ones)
    ended = run_here(folder)
    (chosen,) = of(folder, Chosen)
    assert (chosen.epoch_count, chosen.batch_size, chosen.step_count) == (10, 1, 40)
    assert (ended.outcome, ended.step) == ("succeeded", 40)
    measured = of(folder, Metrics)
    assert measured[-1].metrics["train_loss"] < measured[0].metrics["train_loss"]


@pytest.mark.parametrize(
    ("changes", "lines", "code", "words"),
    [
        ({"base_folder": "/nowhere/secret"}, QUESTIONS, "invalid_base_model", "does not exist"),
        ({"max_sequence_tokens": 2}, QUESTIONS, "invalid_training_file", "max_sequence_tokens"),
        (
            {"lora": LoraPlan(target_modules=("wings",))},
            QUESTIONS,
            "invalid_hyperparameters",
            "q_proj",
        ),
        ({}, [{"prompt": "a", "completion": "b"}], "invalid_training_file", "line 1"),
        ({"device": "cuda:17"}, QUESTIONS, "invalid_base_model", "cpu or auto"),
    ],
)
def test_what_can_not_be_trained_fails_with_words(
    tmp_path: Path,
    base: Path,
    run_here: RunHere,
    changes: dict[str, Any],
    lines: list[dict[str, Any]],
    code: str,
    words: str,
) -> None:
    folder = write_job(tmp_path / "job", base, lines, **changes)
    ended = run_here(folder)
    assert (ended.outcome, ended.code, ended.transient) == ("failed", code, False)
    assert words in ended.message
    assert str(tmp_path) not in ended.message
    assert "/nowhere" not in ended.message
    assert not folder.result.exists()


def test_numbers_that_are_no_longer_finite_end_the_training(
    tmp_path: Path, base: Path, run_here: RunHere
) -> None:
    broken = as_saved(base, tmp_path / "broken", torch.float32)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], float("inf"))
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    ended = run_here(write_job(tmp_path / "job", broken))
    assert (ended.outcome, ended.code) == ("failed", "training_diverged")
    assert "learning_rate" in ended.message


def test_other_failures_tell_no_details(tmp_path: Path, base: Path, run_here: RunHere) -> None:
    folder = write_job(tmp_path / "job", base)
    folder.training.unlink()
    ended = run_here(folder)
    assert (ended.outcome, ended.code, ended.transient) == ("failed", "internal_error", True)
    assert str(tmp_path) not in ended.message


def test_a_worker_that_finds_the_result_there_says_so(
    tmp_path: Path, base: Path, run_here: RunHere
) -> None:
    folder: JobFolder = write_job(tmp_path / "job", base, epoch_count=1)
    first = run_here(folder)
    folder.training.unlink()
    second = run_here(folder, 2)
    assert (second.outcome, second.attempt) == ("succeeded", 2)
    assert (second.step, second.trained_token_count) == (first.step, first.trained_token_count)
    assert second.trained_token_count > 0
