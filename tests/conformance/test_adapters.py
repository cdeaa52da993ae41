"""Adapters beside a model on the torch engine: one batch for all, and nothing taken from others."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from services.errors import FailedPrecondition, Unavailable
from services.inference.engine import (
    Engine,
    Grammar,
    GrammarKind,
    LoadedModel,
    ModelSpec,
    Reused,
)
from services.inference.engines.echo_engine import EchoLoader
from services.inference.engines.torch_adapter import check_room
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import Recorder, sequence, submit, until
from tests.unit.inference.engines.test_decoder_adapters import TARGETS, save_adapter

CONTEXT = 160
BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, head size, float32
SHARED = [(13 * place) % 250 + 3 for place in range(40)]
PROMPTS = [SHARED + [(7 * kind + 5 * place) % 250 + 3 for place in range(9)] for kind in range(3)]


@pytest.fixture(scope="module")
def folders(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    parent = tmp_path_factory.mktemp("adapters")
    return {
        name: save_adapter(parent / name, model, TARGETS["llama"], seed)
        for seed, name in enumerate("abc", start=1)
    }


def merge(base: Path, adapter: Path, target: Path) -> None:
    """Saves a model with an adapter in its weights: `W + s·BA`."""
    shutil.copytree(base, target, dirs_exist_ok=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config["use_rslora"] else config["r"])
    weights, changes = (
        load_file(base / "model.safetensors"),
        load_file(adapter / "adapter_model.safetensors"),
    )
    for key, down in changes.items():
        if ".lora_A." in key:
            name = key.removeprefix("base_model.model.").replace(".lora_A.", ".")
            weights[name] += scale * changes[key.replace(".lora_A.", ".lora_B.")] @ down
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


async def load(folder: Path, **changes: Any) -> LoadedModel:
    settings = {
        "max_batch_size": 6,
        "max_context": CONTEXT,
        "device": "cpu",
        "dtype": "float32",
        "step_tokens": 64,
        "max_adapters": 2,
        "max_adapter_rank": 4,
        **changes,
    }
    loader = TorchLoader(TorchSettings(**settings))
    return await loader.load(ModelSpec("tiny", "1", folder), lambda share: None)


@pytest.fixture
async def base(tiny_llama: Path) -> AsyncIterator[Engine]:
    loaded = await load(tiny_llama)
    yield loaded.engine
    await loaded.engine.close()


def asked(
    engine: Engine, prompt: list[int], *, reuse: bool = True, most: int = 12, **more: Any
) -> Recorder:
    return submit(engine, sequence(prompt, most, ignore_eos=True, **more), reuse=reuse)


async def alone(engine: Engine, prompt: list[int], **more: Any) -> list[int]:
    return (await asked(engine, prompt, reuse=False, **more).until_over()).tokens()


def cached(recorder: Recorder) -> int:
    return sum(event.cached_tokens for event in recorder.events if isinstance(event, Reused))


@pytest.mark.parametrize(
    ("contexts", "most"),
    [(6, 12), (2, 60)],  # the second: rows are taken away and computed again
)
async def test_a_mixed_batch_gives_each_what_it_gets_alone(
    contexts: int,
    most: int,
    tiny_llama: Path,
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = contexts * (CONTEXT + 1) * BYTES_PER_TOKEN
    loaded = await load(tiny_llama, kv_cache_bytes=memory)
    base: Any = loaded.engine
    engines: list[Engine] = [base]
    engines += [await base.attach(name, folders[name]) for name in "ab"]
    jobs = [
        (engine, prompt, {"temperature": temperature, "seed": 3, "most": most})
        for prompt in PROMPTS
        for engine in engines
        for temperature in (0.0, 1.0)
    ]
    expected = [await alone(engine, prompt, **more) for engine, prompt, more in jobs]
    assert len({tuple(tokens) for tokens in expected[:6:2]}) == 3  # each adapter changes the answer

    mixes: list[int] = []
    lost: list[object] = []
    run, residents = base._runner.run, base._scheduler._residents
    preempt = residents.preempt

    def watched(batch: Any) -> Any:
        mixes.append(len({span.sequence.adapter for span in batch.spans}))
        return run(batch)

    def noted(sequence: Any) -> None:
        lost.append(sequence)
        preempt(sequence)

    monkeypatch.setattr(base._runner, "run", watched)
    monkeypatch.setattr(residents, "preempt", noted)
    for _ in range(2):  # the second time with what the first left in memory
        together = [asked(engine, prompt, **more) for engine, prompt, more in jobs]
        for recorder, tokens in zip(together, expected, strict=True):
            assert (await recorder.until_over()).tokens() == tokens
    assert max(mixes) >= (3 if contexts == 6 else 2)
    assert bool(lost) is (contexts == 2)
    assert any(cached(recorder) for recorder in together)
    await base.close()


async def test_an_adapter_answers_like_merged_weights(
    base: Engine, tiny_llama: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    merge(tiny_llama, folders["a"], tmp_path)
    merged = await load(tmp_path)
    adapter = await base.attach("a", folders["a"])
    for prompt in PROMPTS:
        same = await alone(merged.engine, prompt, temperature=0.0)
        assert await alone(adapter, prompt, temperature=0.0) == same
    assert adapter.info.parameter_count > base.info.parameter_count
    assert adapter.info.build != base.info.build
    assert (base.info.capabilities.lora, adapter.info.capabilities.lora) == (True, False)
    await merged.engine.close()


async def test_prefixes_are_not_shared_between_adapters(
    base: Engine, folders: dict[str, Path]
) -> None:
    first, other = [await base.attach(name, folders[name]) for name in "ab"]
    for engine in (base, first, other):
        assert cached(await asked(engine, PROMPTS[0]).until_over()) == 0
        assert cached(await asked(engine, PROMPTS[0]).until_over()) == len(PROMPTS[0]) - 1
    # Nor with another adapter of the same name.
    await first.close()
    again = await base.attach("a", folders["a"])
    assert cached(await asked(again, PROMPTS[0]).until_over()) == 0


async def test_what_runs_with_an_adapter_ends_with_it(
    base: Engine, folders: dict[str, Path]
) -> None:
    adapter = await base.attach("a", folders["a"])
    doomed = submit(adapter, sequence([5], 100, ignore_eos=True))
    spared = submit(base, sequence([5], 100, ignore_eos=True))
    await until(lambda: bool(doomed.tokens() and spared.tokens()))
    assert (adapter.status().running, base.status().running) == (1, 1)
    await adapter.close()
    assert isinstance((await doomed.until_over()).failure, Unavailable)
    assert len((await spared.until_over()).tokens()) == 100
    assert (base.status().completed_24h, adapter.status().completed_24h) == (1, 0)
    with pytest.raises(Unavailable):
        asked(adapter, [5])
    with pytest.raises(FailedPrecondition):
        await adapter.probe()
    await base.probe()


async def test_adapters_are_held_to_forms(base: Engine, folders: dict[str, Path]) -> None:
    adapter = await base.attach("a", folders["a"])
    form = await adapter.compile(Grammar(GrammarKind.REGEX, "(yes|no){4}"))
    request = sequence([5], 40, temperature=0.0)
    recorder = submit(adapter, type(request)(request.prompt, request.params, form))
    assert len((await recorder.until_over()).tokens()) >= 4


async def test_there_is_room_for_so_many(base: Engine, folders: dict[str, Path]) -> None:
    first = await base.attach("a", folders["a"])
    await base.attach("b", folders["b"])
    with pytest.raises(FailedPrecondition, match="max_adapters"):
        await base.attach("third", folders["a"])
    second = await base.attach("a", folders["a"])  # takes the first one's place
    await first.close()
    await second.probe()
    await second.close()
    await (await base.attach("third", folders["a"])).probe()


async def test_an_attachment_that_is_given_up_leaves_nothing(
    base: Engine, folders: dict[str, Path]
) -> None:
    for yields in range(4):
        task = asyncio.create_task(base.attach(f"given up {yields}", folders["a"]))
        for _ in range(yields):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for name in "ab":
        await (await base.attach(name, folders[name])).probe()


async def test_what_does_not_fit_is_refused(
    base: Engine, folders: dict[str, Path], tiny_llama: Path
) -> None:
    with pytest.raises(FailedPrecondition, match=r"rank is 5, .* at most 4"):
        await base.attach("c", folders["c"])
    with pytest.raises(FailedPrecondition, match=r"adapter_config\.json is missing"):
        await base.attach("whole", tiny_llama)
    with pytest.raises(FailedPrecondition, match="bytes of memory"):
        check_room(folders["a"], free=100)
    adapter = await base.attach("a", folders["a"])
    with pytest.raises(FailedPrecondition, match="adapter itself"):
        await adapter.attach("b", folders["b"])


async def test_every_engine_takes_adapters_or_says_that_it_does_not(
    loaded: LoadedModel, folders: dict[str, Path]
) -> None:
    info = loaded.engine.info
    assert info.capabilities.lora is (info.name == "torch")
    if info.capabilities.lora:
        await (await loaded.engine.attach("a", folders["a"])).close()
    else:
        with pytest.raises(FailedPrecondition, match=f"'{info.name}' without LoRA"):
            await loaded.engine.attach("a", folders["a"])
    await loaded.engine.probe()


async def test_engines_without_lora_say_so(tiny_llama: Path, folders: dict[str, Path]) -> None:
    echo = await EchoLoader().load(ModelSpec("echo", "1", tiny_llama), lambda share: None)
    others = [
        echo,
        await load(tiny_llama, decoder="transformers"),
        await load(tiny_llama, max_adapters=0),
    ]
    for loaded in others:
        assert not loaded.engine.info.capabilities.lora
        with pytest.raises(FailedPrecondition, match=f"'{loaded.engine.info.name}' without LoRA"):
            await loaded.engine.attach("a", folders["a"])
        await loaded.engine.close()
