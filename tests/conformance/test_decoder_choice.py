"""Models run on the compact decoder or on transformers' code, as the setting and the facts say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from services.errors import FailedPrecondition
from services.inference.engine import ModelSpec
from services.inference.engines import torch_model
from services.inference.engines.decoder_facts import DecoderFacts, decoder_facts
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import sequence, submit
from tests.conformance.tiny_models import FAMILIES, save_model

PROMPTS = ([5, 77, 130], list(range(3, 43)))


async def check(folder: Path, decoder: str, *, compact: bool) -> None:
    """Loads a folder and compares what it generates with `generate`."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    settings = TorchSettings(dtype="float32", device="cpu", max_batch_size=2, decoder=decoder)
    loaded = await TorchLoader(settings).load(ModelSpec("m", "1", folder), lambda share: None)
    try:
        assert ("compact" in loaded.engine.info.build) is compact
        assert loaded.engine.info.parameter_count == sum(p.numel() for p in model.parameters())
        recorders = [
            submit(loaded.engine, sequence(prompt, 10, temperature=0, ignore_eos=True))
            for prompt in PROMPTS
        ]
        for prompt, recorder in zip(PROMPTS, recorders, strict=True):
            await recorder.until_over()
            expected = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=10,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )[0, len(prompt) :]
            assert recorder.tokens() == expected.tolist()
    finally:
        await loaded.engine.close()


@pytest.mark.parametrize("family", FAMILIES)
async def test_transformers_own_code(family: str, tmp_path: Path) -> None:
    await check(save_model(tmp_path / family, family), "transformers", compact=False)


async def test_the_compact_decoder_by_default(tmp_path: Path) -> None:
    await check(save_model(tmp_path / "model"), TorchSettings().decoder, compact=True)


async def test_a_family_it_does_not_know_runs_on_transformers_code(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", hidden_act="relu6")
    await check(folder, "auto", compact=False)


async def test_where_it_computes_something_else_the_weights_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(config: PretrainedConfig) -> DecoderFacts | None:
        facts = decoder_facts(config)
        return facts and replace(facts, activation="relu")

    monkeypatch.setattr(torch_model, "decoder_facts", wrong)
    await check(save_model(tmp_path / "model"), "auto", compact=False)


async def test_an_unknown_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="auto or transformers"):
        await check(save_model(tmp_path / "model"), "magic", compact=False)
