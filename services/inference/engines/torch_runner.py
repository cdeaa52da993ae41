"""Runs a causal language model over batches of spans. Used by the device's thread alone."""

import inspect
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from services.errors import Internal
from services.inference.engine import TokenScore
from services.inference.engines.decoder import Decoder
from services.inference.engines.decoder_adapters import ReadAdapter
from services.inference.engines.kv_pool import rounded
from services.inference.engines.masks import Masks
from services.inference.engines.memory_ops import MemoryOperation, Resize
from services.inference.engines.sampler import (
    Choice,
    RowSampler,
    choose_along,
    score_tokens,
)
from services.inference.engines.slot_cache import SlotCache
from services.inference.engines.static_decode import Recorder, StaticDecode
from services.inference.engines.steps import Batch, Phase, Span


@dataclass(frozen=True, slots=True)
class SpanResult:
    """What a forward pass said about one span."""

    span: Span
    choices: Sequence[Choice] = ()
    """The next tokens, for spans that complete their sequence: as many as the draft had right, and
    one more."""
    scores: Sequence[TokenScore] = field(default=())
    """Scores of prompt tokens, for scored prompts."""


class TorchRunner:
    """A model, its attention memory and the samplers of its sequences.

    Args:
        model: the model.
        masks: makes its masks.
        layers: layers of attention memory.
        vocabulary_size: tokens that it can say.
        eos: tokens that end a sequence.
        recorder: records decode steps of the compact decoder. None: all run as they come.
        slots: most sequences of such a step.
    """

    def __init__(
        self,
        model: PreTrainedModel | Decoder,
        masks: Masks,
        *,
        layers: int,
        vocabulary_size: int,
        eos: frozenset[int],
        recorder: Recorder | None = None,
        slots: int = 1,
    ) -> None:
        self._model: Any = model
        self._decoder: Decoder | None = model if isinstance(model, Decoder) else None
        self._masks = masks
        self._device: torch.device = model.device
        self._vocabulary_size = vocabulary_size
        self._eos = eos
        self._cache = SlotCache(layers)
        self._static: StaticDecode | None = None
        if self._decoder is not None and recorder is not None:
            self._static = StaticDecode(self._decoder, masks, self._cache, recorder, slots)
        self._samplers: dict[int, RowSampler] = {}
        self._keeps_last = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def bytes_per_token(self) -> int:
        """Bytes of attention memory that a token takes; known after a forward pass."""
        return self._cache.bytes_per_token

    def retain(self, keys: Collection[int]) -> None:
        """Forgets how other sequences' tokens are chosen; it can be made anew."""
        for key in self._samplers.keys() - keys:
            del self._samplers[key]

    @torch.inference_mode()
    def carry_out(self, operations: Iterable[MemoryOperation]) -> None:
        """Changes the attention memory before the forward passes of a step."""
        self._cache.carry_out(operations)

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[SpanResult]:
        """Runs one forward pass and chooses the next tokens of each span that can have some."""
        spans = batch.spans
        scored = batch.phase is Phase.SCORE
        logits = self.logits(spans, every_position=scored or any(span.draft for span in spans))
        complete = [index for index, span in enumerate(spans) if span.completes]
        choices: dict[int, list[Choice]] = {}
        if complete:
            chosen = choose_along(
                logits if len(complete) == len(spans) else logits[complete],
                [self._sampler(spans[index]) for index in complete],
                [spans[index].draft for index in complete],
            )
            choices = dict(zip(complete, chosen, strict=True))
        return [
            SpanResult(
                span,
                choices.get(index, ()),
                _prompt_scores(span, logits[index]) if scored else (),
            )
            for index, span in enumerate(spans)
        ]

    def release(self) -> None:
        """Frees the model and all memory; nothing can run after it."""
        self._samplers.clear()
        if self._static is not None:
            self._static.forget()
        self._cache.carry_out([Resize(0, 0)])
        self._model = self._decoder = self._static = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    def read_adapter(self, folder: Path) -> ReadAdapter:
        """Reads an adapter; the only method for threads beside the device's.

        Raises:
            FailedPrecondition: it is broken, or does not fit the model.
        """
        return self._adaptable().read_adapter(folder)

    def put_adapter(self, key: str, adapter: ReadAdapter) -> None:
        """Takes an adapter in, for sequences whose group names its key."""
        self._adaptable().put_adapter(key, adapter)

    def drop_adapter(self, key: str) -> None:
        """Forgets an adapter."""
        self._adaptable().drop_adapter(key)

    @torch.inference_mode()
    def probe(self, adapter: str = "") -> None:
        """Runs a forward pass beside everything else; raises when its result is not finite."""
        token = min(self._eos, default=0)
        self._say_rows([adapter])
        logits = self._model(torch.tensor([[token]], device=self._device), use_cache=False).logits
        if not bool(torch.isfinite(logits).all()):
            raise Internal(
                "The model's forward pass gives no finite numbers: its weights are broken."
            )

    def _sampler(self, span: Span) -> RowSampler:
        key = span.sequence.key
        sampler = self._samplers.get(key)
        if sampler is None:
            sampler = RowSampler(span.sequence, self._eos, self._device)
            self._samplers[key] = sampler
        return sampler

    def _adaptable(self) -> Decoder:
        if self._decoder is None:
            raise RuntimeError("adapters need the compact decoder")
        return self._decoder

    def _say_rows(self, adapters: Sequence[str]) -> None:
        """Says which adapter each row of the next pass has.

        Also where none has any: what was said for a pass that never came must not hold for this.
        """
        if self._decoder is not None:
            self._decoder.rows([adapter or None for adapter in adapters])

    @torch.inference_mode()
    def logits(self, spans: Sequence[Span], *, every_position: bool = False) -> Tensor:
        """Runs a forward pass.

        Returns logits of the last position, `[batch, 1, vocabulary]`, or of every one; they hold
        until the next pass.
        """
        if self._static is not None and not every_position:
            recorded = self._static.logits(spans)
            if recorded is not None:
                return recorded
        ids, places, columns = self._inputs(spans)
        length = rounded(max(span.end for span in spans))
        self._cache.place([span.place for span in spans], columns, length)
        extra: dict[str, Any] = {}
        if self._keeps_last and not every_position:
            extra["logits_to_keep"] = 1
        self._say_rows([span.sequence.adapter for span in spans])
        logits: Tensor = self._model(
            input_ids=ids,
            attention_mask=self._masks.make(places, length),
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
            **extra,
        ).logits
        return logits if every_position else logits[:, -1:]

    def _inputs(self, spans: Sequence[Span]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, their positions and their columns, all `[batch, queries]`."""
        width = max(span.count for span in spans)
        tokens: list[list[int]] = []
        positions: list[list[int]] = []
        padded = False
        for span in spans:
            # Padding goes in front, so that the last position is everybody's last token.
            padding = [0] * (width - span.count)
            padded = padded or bool(padding)
            tokens.append(padding + span.tokens)
            positions.append([*padding, *range(span.start, span.end)])
        ids = torch.tensor(tokens, device=self._device)
        places = torch.tensor(positions, device=self._device)
        if not padded:
            return ids, places, places
        counts = torch.tensor([[span.count] for span in spans], device=self._device)
        pad = torch.arange(width, device=self._device) < width - counts
        return ids, places, places.masked_fill(pad, self._cache.shape[1])


def _prompt_scores(span: Span, logits: Tensor) -> list[TokenScore]:
    """Scores of the prompt tokens that a span predicts, from logits `[positions, vocabulary]`."""
    request = span.sequence.request
    targets = list(request.prompt[span.start + 1 : span.end + 1])
    return score_tokens(logits[: len(targets)], targets, request.params.logprobs or 0)
