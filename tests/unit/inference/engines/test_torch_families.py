"""Batches of mixed sequences give, token for token, what `transformers` gives for each alone."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.errors import FailedPrecondition
from services.inference.engine import ModelSpec
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import sequence, submit
from tests.conformance.tiny_models import FAMILIES, save_model

# 31 and 32 sit at the edge where read lengths are rounded; 90 takes several parts of a prefill.
LENGTHS = (1, 2, 9, 31, 32, 90)


@pytest.mark.parametrize("family", FAMILIES)
async def test_batched_greedy_is_what_generate_gives(family: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    folder = save_model(tmp_path / family, family)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(4)
    prompts = [torch.randint(3, 300, (n,), generator=generator).tolist() for n in LENGTHS]
    settings = TorchSettings(dtype="float32", device="cpu", max_batch_size=4, step_tokens=48)
    loaded = await TorchLoader(settings).load(ModelSpec(family, "1", folder), lambda share: None)
    recorders = [
        submit(loaded.engine, sequence(prompt, 8 + 2 * place, temperature=0, ignore_eos=True))
        for place, prompt in enumerate(prompts)
    ]
    for place, (prompt, recorder) in enumerate(zip(prompts, recorders, strict=True)):
        await recorder.until_over()
        assert recorder.failure is None
        expected = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=8 + 2 * place,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0, len(prompt) :]
        assert recorder.tokens() == expected.tolist()
    await loaded.engine.close()


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
        ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    ],
)
async def test_other_architectures_are_refused(
    model_type: str, options: dict, tmp_path: Path
) -> None:
    fixed = dict.fromkeys(("intermediate_size", "num_attention_heads", "num_key_value_heads"))
    save_model(tmp_path, "llama")
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type, vocab_size=320, pad_token_id=0, **options)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    del fixed
    with pytest.raises(FailedPrecondition):
        await TorchLoader(TorchSettings(dtype="float32", device="cpu")).load(
            ModelSpec("other", "1", tmp_path, context_length=64), lambda share: None
        )
