"""What goes wrong in a forward pass, and how steps reach the event loop."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.errors import Internal, Unavailable
from services.inference.engine import LoadedModel, ModelSpec
from services.inference.engines.steps import Batch
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import sequence, submit, until
from tests.conformance.tiny_models import save_model


@pytest.fixture
async def loaded(tmp_path: Path) -> AsyncIterator[LoadedModel]:
    settings = TorchSettings(max_batch_size=8, dtype="float32", device="cpu", torch_threads=1)
    model = await TorchLoader(settings).load(
        ModelSpec("tiny", "1", save_model(tmp_path)), lambda share: None
    )
    yield model
    await model.engine.close()


def runner(loaded: LoadedModel) -> Any:
    return loaded.engine._runner  # type: ignore[attr-defined]


async def test_a_failing_forward_pass_fails_its_groups_only(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = runner(loaded).run

    def fragile(batch: Batch) -> Any:
        if any(13 in span.sequence.request.prompt for span in batch.spans):
            raise RuntimeError("out of memory")
        return run(batch)

    monkeypatch.setattr(runner(loaded), "run", fragile)
    bad = await submit(loaded.engine, sequence([13], 5), sequence([5], 5)).until_over()
    assert isinstance(bad.failure, RuntimeError)
    good = await submit(loaded.engine, sequence([5], 5, ignore_eos=True)).until_over()
    assert len(good.tokens()) == 5
    assert "out of memory" in caplog.text
    await until(lambda: loaded.engine.status().running == 0)
    await loaded.engine.probe()


async def test_a_dead_device_shows_in_the_probe(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*args: object, **kwargs: object) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(runner(loaded), "_model", dead)
    with pytest.raises(RuntimeError, match="device lost"):
        await loaded.engine.probe()
    recorder = await submit(loaded.engine, sequence([5], 5)).until_over()
    assert isinstance(recorder.failure, RuntimeError)


async def test_numbers_that_are_not_finite_fail_the_probe(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = runner(loaded)._model

    def broken(*args: Any, **kwargs: Any) -> Any:
        output = model(*args, **kwargs)
        output.logits.fill_(float("nan"))
        return output

    monkeypatch.setattr(runner(loaded), "_model", broken)
    with pytest.raises(Internal):
        await loaded.engine.probe()


async def test_an_error_outside_a_forward_pass_ends_the_engine_loudly(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = submit(loaded.engine, sequence([5], 4000, ignore_eos=True))
    await recorder.until(lambda: recorder.admitted)

    def broken(keys: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(runner(loaded), "retain", broken)
    await recorder.until_over()
    assert isinstance(recorder.failure, Unavailable)
    monkeypatch.undo()
    with pytest.raises(Unavailable):
        submit(loaded.engine, sequence([5], 5))
    with pytest.raises(Unavailable):
        await loaded.engine.probe()


async def test_one_call_per_step_and_group(loaded: LoadedModel) -> None:
    """Each group hears of its admission, then once of each step, for all of its sequences."""
    group = [sequence([5, 6], 10, seed, ignore_eos=True) for seed in range(4)]
    recorder = await submit(loaded.engine, *group).until_over()
    assert recorder.calls == 1 + 10


async def test_sinks_run_on_the_loops_thread(loaded: LoadedModel) -> None:
    from services.inference.engine import GroupRequest

    threads: set[str] = set()
    done = asyncio.Event()

    def sink(events: object) -> None:
        threads.add(threading.current_thread().name)
        done.set()

    loaded.engine.submit(GroupRequest([sequence([5], 1)]), sink)
    await done.wait()
    assert threads == {threading.current_thread().name}


async def test_rows_are_kept_but_nobody_owns_them(loaded: LoadedModel) -> None:
    group = [sequence([5] * 300, 400, seed, ignore_eos=True) for seed in range(8)]
    recorder = submit(loaded.engine, *group)
    await recorder.until(lambda: all(recorder.tokens(index) for index in range(8)))
    pool = loaded.engine._scheduler._residents.pool  # type: ignore[attr-defined]
    assert pool.owned == 8
    await recorder.until_over()
    await until(lambda: pool.owned == 0)
    assert 8 <= len([row for row in pool.rows if row is not None]) <= 4 * 8
    again = await submit(loaded.engine, sequence([5] * 300, 3)).until_over()
    assert again.end().cached_tokens == 299
    await until(lambda: runner(loaded)._cache.shape == pool.shape)


async def test_samplers_go_with_their_sequences(loaded: LoadedModel) -> None:
    await submit(loaded.engine, sequence([5] * 3, 4), sequence([6] * 3, 4)).until_over()
    submit(loaded.engine, sequence([5], 4000, ignore_eos=True))
    await until(lambda: len(runner(loaded)._samplers) == 1)


async def test_memory_that_can_not_be_had_fails_what_runs_and_no_more(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(operations: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(runner(loaded), "carry_out", full)
    recorder = await submit(loaded.engine, sequence([5] * 20, 5)).until_over()
    assert isinstance(recorder.failure, MemoryError)
    monkeypatch.undo()
    good = await submit(loaded.engine, sequence([5] * 20, 5, ignore_eos=True)).until_over()
    assert len(good.tokens()) == 5
    assert "attention memory" in caplog.text


async def test_the_thread_ends(loaded: LoadedModel) -> None:
    await loaded.engine.close()
    assert not loaded.engine._thread.is_alive()  # type: ignore[attr-defined]


async def test_an_idle_engine_uses_no_processor(loaded: LoadedModel) -> None:
    import time

    await submit(loaded.engine, sequence([5], 3)).until_over()
    await asyncio.sleep(0.05)
    before = time.process_time()
    await asyncio.sleep(0.3)
    assert time.process_time() - before < 0.1
