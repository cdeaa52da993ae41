"""Models with weights in eight bits, from deployment to tokens, and those that can't have them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from services.errors import FailedPrecondition
from services.inference.engine import LoadedModel, ModelSpec
from services.inference.engines import decoder_build, torch_loader
from services.inference.engines.decoder_facts import decoder_facts
from services.inference.engines.decoder_fp8 import Fp8Matrix
from services.inference.engines.decoder_int8 import Int8Matrix
from services.inference.engines.decoder_linear import EIGHT_BITS, Form
from services.inference.engines.memory_plan import memory_needs
from services.inference.engines.number_types import choose_number_type
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import sequence, submit
from tests.conformance.tiny_models import save_model

SETTINGS = TorchSettings(max_batch_size=4, max_context=128, device="cpu", dtype="fp8")


async def load(folder: Path, settings: TorchSettings = SETTINGS, dtype: str = "") -> LoadedModel:
    spec = ModelSpec("m", "1", folder, dtype=dtype)
    return await TorchLoader(settings).load(spec, lambda share: None)


@pytest.mark.parametrize("eight", EIGHT_BITS)
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
async def test_it_answers(family: str, eight: Form, tmp_path: Path) -> None:
    """As the model with the rounded weights does, as long as no two tokens are near."""
    folder = save_model(tmp_path / family, family)
    loaded = await load(folder, replace(SETTINGS, dtype=eight.value))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    facts = decoder_facts(model.config)
    assert facts is not None
    decoder_build.round_matrices(model, facts, eight)
    try:
        assert loaded.engine.info.dtype == eight.value
        prompts = [list(range(3, 9)), list(range(40, 97))]
        recorders = [
            submit(loaded.engine, sequence(p, 12, temperature=0, ignore_eos=True, logprobs=1))
            for p in prompts
        ]
        for prompt, recorder in zip(prompts, recorders, strict=True):
            await recorder.until_over()
            assert recorder.failure is None
            tokens = recorder.tokens()
            assert len(tokens) == 12
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
            best = torch.log_softmax(logits.float(), -1)
            for place, token in enumerate(tokens):
                assert float(best[place].max() - best[place, token]) < 0.25
        await loaded.engine.probe()
    finally:
        await loaded.engine.close()


async def test_a_deployment_goes_before_the_setting(tiny_llama: Path) -> None:
    for setting, deployed, served in (
        ("fp8", "float32", "float32"),
        ("float32", "fp8", "fp8"),
        ("fp8", "int8", "int8"),
    ):
        loaded = await load(tiny_llama, replace(SETTINGS, dtype=setting), deployed)
        assert loaded.engine.info.dtype == served
        await loaded.engine.close()


@pytest.mark.parametrize("eight", EIGHT_BITS)
async def test_what_cannot_have_them_is_refused(
    tiny_llama: Path, tmp_path: Path, eight: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, dtype=eight.value)
    with pytest.raises(FailedPrecondition, match='decoder = "transformers" switches that off'):
        await load(tiny_llama, replace(settings, decoder="transformers"))
    with pytest.raises(FailedPrecondition, match="llama does not run on that"):
        await load(save_model(tmp_path / "odd", "llama", hidden_act="relu6"), settings)
    monkeypatch.setitem(decoder_build.LOSS_ALLOWED, eight, 1e-3)
    with pytest.raises(FailedPrecondition, match=f"In {eight.value} .* Deploy it in (bfl|fl)oat"):
        await load(tiny_llama, settings)


async def test_number_types_that_there_are_not(tiny_llama: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"“int4”: use auto, .*float16, fp8 or int8"):
        await load(tiny_llama, dtype="int4")
    with pytest.raises(FailedPrecondition, match="for processors: on a GPU use fp8"):
        choose_number_type("int8", torch.device("cuda", 0))


async def test_memory_has_to_hold_the_weights_in_sixteen_bits_first(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_loader, "free_bytes", lambda device: 50_000)
    with pytest.raises(FailedPrecondition, match=r"while it is loaded: .* before they have eight"):
        await load(tiny_llama)


@pytest.mark.parametrize("eight", EIGHT_BITS)
@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "gpt_neox"])
def test_memory_is_planned_for_the_smaller_weights(
    family: str, eight: Form, tmp_path: Path
) -> None:
    folder = save_model(tmp_path / family, family)
    config = AutoConfig.from_pretrained(folder)
    facts = decoder_facts(config)
    assert facts is not None

    def planned(**more: object) -> int:
        file = folder / "model.safetensors"
        return memory_needs(
            config, [file], torch.bfloat16, context=64, slots=4, step_tokens=32, **more
        ).weights  # type: ignore[arg-type]

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    whole = sum(parameter.nbytes for parameter in model.parameters())
    assert planned() == whole
    decoder = decoder_build.build_decoder(model, facts, eight=eight)
    small = 0
    for projection in decoder.projections:
        weight = projection._weight
        assert isinstance(weight, Fp8Matrix | Int8Matrix)
        small += weight.nbytes
        whole -= 2 * projection.inputs * projection.outputs
    assert whole + small <= planned(eight=facts.layout.matrices) <= 1.05 * (whole + small)
