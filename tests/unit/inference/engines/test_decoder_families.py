"""The compact decoder computes what transformers computes, family by family."""

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from services.inference.engines.decoder import Decoder
from services.inference.engines.decoder_facts import FAMILIES, decoder_facts
from services.inference.engines.masks import SLIDING
from tests.unit.inference.engines.decoder_models import VARIANTS, compact, reference

TOLERANCE = 1e-4
LENGTHS = (3, 11, 20)
PARTS = (12, 8, 1, 1, 1, 1)
"""Columns of each pass: two parts of a prompt, then single tokens."""
NONE = torch.finfo(torch.float32).min


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, Decoder]:
    model = reference(request.param)
    return model, compact(model)


def test_every_known_family_is_tried() -> None:
    assert {str(reference(name).config.model_type) for name in VARIANTS} == FAMILIES


@torch.inference_mode()
def test_prompts(pair: tuple[PreTrainedModel, Decoder]) -> None:
    model, decoder = pair
    tokens = torch.randint(320, (2, 20), generator=torch.Generator().manual_seed(1))
    expected = model(tokens, use_cache=False).logits
    assert_close(decoder(tokens).logits, expected)
    assert_close(decoder(tokens, logits_to_keep=1).logits, expected[:, -1:])
    assert_close(decoder(tokens, logits_to_keep=3).logits, expected[:, -3:])


@torch.inference_mode()
def test_padded_batches_with_attention_memory(pair: tuple[PreTrainedModel, Decoder]) -> None:
    """Prompts of unequal lengths, read in parts and decoded together, far past a window of 6."""
    model, decoder = pair
    total = sum(PARTS)
    pads = torch.tensor([[max(LENGTHS) - length] for length in LENGTHS])
    tokens = torch.randint(320, (3, total), generator=torch.Generator().manual_seed(2))
    positions = torch.arange(total) - pads
    memory = DynamicCache()
    logits: list[Tensor] = []
    start = 0
    for count in PARTS:
        part = slice(start, start + count)
        out = decoder(
            input_ids=tokens[:, part],
            attention_mask=masks(decoder.config, positions, part),
            position_ids=positions[:, part].clamp(min=0),
            past_key_values=memory,
            use_cache=True,
        )
        logits.append(out.logits)
        start += count
    together = torch.cat(logits, 1)
    for row, pad in enumerate(pads[:, 0].tolist()):
        alone = model(tokens[row : row + 1, pad:], use_cache=False).logits[0]
        assert_close(together[row, pad:], alone)


def masks(config: PretrainedConfig, positions: Tensor, part: slice) -> Tensor | dict[str, Tensor]:
    """Masks of columns that are padded in front: `[batch, 1, queries, columns so far]`."""
    facts = decoder_facts(config)
    assert facts is not None
    keys, queries = positions[:, None, None, : part.stop], positions[:, None, part, None]
    full = (keys >= 0) & (keys <= queries)
    made = {
        kind: torch.zeros(full.shape).masked_fill(
            ~(full & (keys > queries - facts.window) if kind == SLIDING else full), NONE
        )
        for kind in set(facts.kinds)
    }
    return made if len(made) > 1 else next(iter(made.values()))


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) < TOLERANCE
