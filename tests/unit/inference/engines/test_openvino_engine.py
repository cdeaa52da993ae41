"""What the OpenVINO engine means beyond the conformance suite: the same as torch."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.errors import FailedPrecondition, Unavailable, UnsupportedParameter
from services.inference.engine import Engine, GroupRequest, LoadedModel, ModelSpec
from services.inference.engines import openvino_loader
from services.inference.engines.openvino_loader import OpenVinoLoader
from services.inference.engines.openvino_settings import OpenVinoSettings
from tests.conformance.recorder import Recorder, sequence, submit
from tests.conformance.tiny_models import models_folder, save_model

pytest.importorskip("openvino_genai", reason="the extra `openvino` is not installed")

CONTEXT = 128
KV_TOKEN = 2 * 2 * 2 * 8 * 4
"""Bytes of attention memory for one token of the tiny model: keys and values, layers, heads, size
and float32."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(models_folder(tmp_path_factory) / "tiny")


async def load(folder: Path, **settings: object) -> LoadedModel:
    options: dict[str, object] = {"dtype": "float32", "max_context": CONTEXT, "threads": 1}
    made = OpenVinoSettings(cache=folder.parent / "openvino", **{**options, **settings})  # type: ignore[arg-type]
    return await OpenVinoLoader(made).load(ModelSpec("m", "1", folder), lambda share: None)


def prompt(length: int, start: int = 0) -> list[int]:
    return [(7 * start + 13 * place) % 250 + 3 for place in range(length)]


async def over(recorder: Recorder) -> Recorder:
    await recorder.until(lambda: recorder.over, timeout=100)
    return recorder


class Reference:
    """torch's own view of the model."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.no_grad()
    def logits(self, tokens: list[int]) -> torch.Tensor:
        return self._model(torch.tensor([tokens])).logits[0, -1].float()

    @torch.no_grad()
    def takes(self, tokens: list[int], found: list[int], *, penalty: float = 1.0) -> bool:
        """Whether each token found is the most probable one after those before it."""
        every = self._model(torch.tensor([tokens + found])).logits[0].float()
        for place, token in enumerate(found):
            logits = every[len(tokens) + place - 1]
            seen = list({*tokens, *found[:place]})
            values = logits[seen]
            logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
            if int(logits.argmax()) != token:
                return False
        return True

    def support(
        self, tokens: list[int], *, temperature: float, top_k: int, top_p: float, min_p: float
    ) -> set[int]:
        """Tokens that can come next: temperature, then top-k, top-p and min-p."""
        ordered, ids = torch.softmax(self.logits(tokens) / temperature, -1).sort(descending=True)
        if top_k:
            ordered[top_k:] = 0
        ordered = ordered / ordered.sum()
        ordered[ordered.cumsum(0) - ordered >= top_p] = 0
        ordered[ordered < min_p * ordered[0]] = 0
        return set(ids[ordered > 0].tolist())


FILTERS = [
    {"temperature": 0.5, "top_k": 0, "top_p": 1.0, "min_p": 0.5},
    {"temperature": 1.5, "top_k": 0, "top_p": 0.3, "min_p": 0.0},
    {"temperature": 1.5, "top_k": 5, "top_p": 1.0, "min_p": 0.0},
    {"temperature": 1.0, "top_k": 7, "top_p": 0.6, "min_p": 0.1},
    {"temperature": 1.5, "top_k": 3, "top_p": 0.9, "min_p": 0.8},
]


async def test_sampling_means_what_it_means_in_torch(folder: Path) -> None:
    reference = Reference(folder)
    engine = (await load(folder, queue_limit=1000)).engine
    try:
        text = prompt(50)
        penalised = sequence(text, 30, temperature=0, repetition_penalty=1.7, ignore_eos=True)
        recorder = await over(submit(engine, penalised))
        assert len(recorder.tokens()) == 30
        assert reference.takes(text, recorder.tokens(), penalty=1.7)
        for params in FILTERS:
            draws = [sequence(text, 1, seed, ignore_eos=True, **params) for seed in range(120)]
            recorder = await over(submit(engine, *draws))
            seen = {token for index in range(120) for token in recorder.tokens(index)}
            support = reference.support(text, **params)
            assert seen <= support, params
            assert len(seen) > 1 or len(support) == 1, "nothing is drawn"
        warm = sequence(text, 6, 3, temperature=1.3, top_p=0.9, logprobs=0, ignore_eos=True)
        recorder = await over(submit(engine, warm))
        for place, score in enumerate(recorder.scores()):
            logits = reference.logits(text + recorder.tokens()[:place])
            assert score.logprob == pytest.approx(
                float(torch.log_softmax(logits, -1)[score.token_id]), abs=1e-3
            ), "scores are of the distribution before temperature and filters"
        coldest = sequence(text, 6, 3, temperature=1e-38, ignore_eos=True)
        recorder = await over(submit(engine, coldest))
        assert len(recorder.tokens()) == 6
        assert reference.takes(text, recorder.tokens())
    finally:
        await engine.close()


@pytest.mark.parametrize("kv_tokens", [0, 2 * CONTEXT])
async def test_any_mix_answers_as_alone(folder: Path, kv_tokens: int) -> None:
    """With little attention memory OpenVINO preempts sequences; nobody notices."""
    reference = Reference(folder)
    dice = random.Random(kv_tokens)
    engine = (
        await load(folder, max_batch_size=4, kv_cache_bytes=kv_tokens * KV_TOKEN, step_tokens=32)
    ).engine
    try:
        running: list[tuple[Recorder, list[int], int]] = []
        for _ in range(16):
            text = prompt(dice.choice([3, 40, 64, 90]), dice.choice([0, 0, 1]))
            count = dice.randrange(1, CONTEXT - len(text))
            one = sequence(text, count, temperature=0, ignore_eos=True)
            recorder = submit(engine, one)
            if dice.random() < 0.25:
                assert recorder.handle is not None
                await asyncio.sleep(dice.random() / 50)
                recorder.handle.cancel()
            else:
                running.append((recorder, text, count))
        for recorder, text, count in running:
            await over(recorder)
            assert recorder.failure is None
            assert len(recorder.tokens()) == count
            assert reference.takes(text, recorder.tokens())
    finally:
        await engine.close()


def children() -> list[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


async def test_a_lost_worker_fails_what_runs_and_is_told_of(folder: Path) -> None:
    before = set(children())
    engine = (await load(folder, max_batch_size=1)).engine
    [worker] = set(children()) - before
    os.kill(worker, signal.SIGSTOP)  # so that nothing ends by itself before the kill
    running, waiting = (submit(engine, sequence(prompt(9), 100, ignore_eos=True)) for _ in range(2))
    probe = asyncio.ensure_future(engine.probe())
    await running.until(lambda: running.admitted)
    os.kill(worker, signal.SIGKILL)
    for recorder in (running, waiting):
        await over(recorder)
        assert isinstance(recorder.failure, Unavailable)
    with pytest.raises(Unavailable):
        await probe
    with pytest.raises(Unavailable):
        submit(engine, sequence(prompt(9), 1))
    with pytest.raises(Unavailable):
        await engine.probe()
    await engine.close()
    assert worker not in children()


async def test_closing_ends_the_worker(folder: Path) -> None:
    before = set(children())
    engine = (await load(folder)).engine
    submit(engine, sequence(prompt(9), 100, ignore_eos=True))
    await engine.close()
    assert set(children()) <= before


@pytest.mark.parametrize("wide", [False, True])
async def test_half_precision_stays_near(
    wide: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on processors that have none: they compute in float32, from the same weights."""
    if wide:
        processor = {"architecture": "x86_64", "avx2": True, "avx512_f": False}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    reference = Reference(folder)
    loaded = await load(folder, dtype="bfloat16")
    try:
        native = openvino_loader.computed_in(torch.bfloat16) is torch.bfloat16
        assert loaded.engine.info.dtype == ("bfloat16" if native else "float32")
        assert "f16" in loaded.engine.info.build
        assert not (wide and native)
        text = prompt(40)
        one = sequence(text, 1, temperature=0, logprobs=0, ignore_eos=True)
        [score] = (await over(submit(loaded.engine, one))).scores()
        best = torch.log_softmax(reference.logits(text), -1).max()
        assert score.logprob == pytest.approx(float(best), abs=0.2)
    finally:
        await loaded.engine.close()


async def test_what_it_can_not_honour_is_refused_by_name(folder: Path) -> None:
    engine: Engine = (await load(folder)).engine
    try:
        with pytest.raises(UnsupportedParameter) as refusal:
            engine.submit(GroupRequest([sequence([5])], reuse=False), lambda events: None)
        assert refusal.value.field == "cache_hint.reuse"
        fields = engine.info.capabilities.sampling_fields
        assert not fields & {"presence_penalty", "frequency_penalty", "logit_bias", "typical_p"}
    finally:
        await engine.close()
    unshared = (await load(folder, prefix_caching=False)).engine
    try:
        recorder = Recorder()
        unshared.submit(GroupRequest([sequence(prompt(5), 2)], reuse=False), recorder)
        recorder.submitting = False
        await over(recorder)
        assert recorder.failure is None
    finally:
        await unshared.close()


def test_devices_other_than_processors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="processors"):
        OpenVinoLoader(OpenVinoSettings(cache=tmp_path, device="cuda"))
