"""Two runners beside each other: one records its decode steps, the other runs them as they come."""

from typing import Any

import torch
from torch import Tensor

from services.inference.engine import GroupRequest, SamplingParams, SequenceRequest
from services.inference.engines.decoder import Decoder
from services.inference.engines.masks import Masks
from services.inference.engines.memory_ops import CopyRow, Resize, SwapRows
from services.inference.engines.sequences import GroupState, SequenceState
from services.inference.engines.static_decode import Recorder, Shape, StaticDecode
from services.inference.engines.steps import Span
from services.inference.engines.torch_runner import TorchRunner
from tests.unit.inference.engines.decoder_models import compact, reference

SLOTS = 6
ROWS, COLUMNS = 7, 64
TOLERANCE = 1e-4


class Pair:
    """The same sequences on two runners: one records its steps, one does not."""

    def __init__(
        self,
        recorder: Recorder,
        variant: str = "llama",
        *,
        device: str = "cpu",
    ) -> None:
        model: Any = reference(variant)
        decoder = compact(model.to(device))
        self.recording = runner(decoder, recorder)
        self.plain = runner(decoder, None)
        self.sequences: list[SequenceState] = []
        self.dice = torch.Generator().manual_seed(9)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        static = self.recording._static
        assert isinstance(static, StaticDecode)
        return tuple(static.shapes)

    def operate(self, *operations: Resize | CopyRow | SwapRows) -> None:
        self.recording.carry_out(operations)
        self.plain.carry_out(operations)

    def begin(self, *lengths: int) -> None:
        """Reads prompts of these lengths, one row each."""
        self.sequences = []
        for place, length in enumerate(lengths):
            tokens = torch.randint(320, (length,), generator=self.dice).tolist()
            self.sequences.append(sequence(place, tokens))
            self.compare([Span(self.sequences[place], 0, length, place)])

    def decode(self, count: int, *, places: list[int] | None = None) -> None:
        """Adds a token to the first sequences and computes it."""
        sequences = self.sequences[:count]
        for each in sequences:
            each.tokens.append(int(torch.randint(320, (1,), generator=self.dice)))
        where = places or list(range(count))
        self.compare(
            [
                Span(each, len(each.tokens) - 1, 1, place)
                for each, place in zip(sequences, where, strict=True)
            ]
        )

    def compare(self, spans: list[Span], *, every_position: bool = False) -> None:
        recorded, eager = (
            each.logits(spans, every_position=every_position)
            for each in (self.recording, self.plain)
        )
        assert recorded.shape == eager.shape
        assert float((recorded - eager).abs().max()) < TOLERANCE
        for mine, theirs in zip(self.states(), states(self.plain), strict=True):
            assert float((mine[:, :, :-1] - theirs[:, :, :-1]).abs().max()) < TOLERANCE

    def states(self) -> list[Tensor]:
        return states(self.recording)


def states(of: TorchRunner) -> list[Tensor]:
    return list(of._cache._states())


def runner(decoder: Decoder, recorder: Recorder | None) -> TorchRunner:
    facts = decoder._facts
    return TorchRunner(
        decoder,
        Masks(frozenset(facts.kinds), facts.window, decoder.dtype),
        layers=facts.layers,
        vocabulary_size=320,
        eos=frozenset(),
        recorder=recorder,
        slots=SLOTS,
    )


def sequence(key: int, tokens: list[int]) -> SequenceState:
    request = SequenceRequest(list(tokens), SamplingParams(max_tokens=0, seed=0))
    group = GroupState(GroupRequest([request]), lambda events: None, None)
    return SequenceState(key, group, 0, request, 0, list(tokens))
