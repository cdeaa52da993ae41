"""The contract of Triton's vLLM backend: text goes in, tokens come out as log-probabilities.

The backend takes no token IDs. So the text that a prompt stands for is sent, but only where the
backend's tokenizer must read it as the same: no text of a caller becomes a special token there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from services.errors import Internal, InvalidArgument
from services.inference.engine import (
    EndReason,
    EngineCapabilities,
    SamplingParams,
    TextCodec,
    TokenScore,
)
from services.inference.engines.triton_contract import Step, Vocabulary, input_names
from services.tritonserver.protocol import ModelConfig
from services.tritonserver.tensors import Tensor, bytes_tensor, tensor

_NEEDED = frozenset({"text_input", "stream", "sampling_parameters", "return_logprobs"})
_USUAL = SamplingParams(max_tokens=1, seed=0)
_SENT = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
_SENT_TOO = ("min_tokens", "ignore_eos")
_SEEDS = 2**63


class VllmContract:
    """A model of the vLLM backend, or one that speaks like it."""

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Vocabulary,
        text: TextCodec,
        special: frozenset[int],
    ) -> None:
        """Takes the model's configuration and its text side.

        Args:
            config: what Triton says of it.
            vocabulary: its tokens.
            text: its tokenizer; the backend has the same.
            special: tokens that a text may spell.
        """
        self.model = str(config.name)
        self.capabilities = EngineCapabilities(
            # The backend can't be given a logit_bias: its keys are numbers, and JSON's are texts.
            sampling_fields=frozenset({"temperature", "logprobs", *_SENT, *_SENT_TOO}),
            max_top_logprobs=20,
        )
        self.shares_prefixes = True
        self._vocabulary = vocabulary
        self._text = text
        self._special = special
        self._reasons = "return_finish_reason" in input_names(config)

    def has_adapters(self, some: bool) -> None:
        """Takes whether the model has LoRA adapters, which its configuration doesn't tell."""
        self.capabilities = replace(self.capabilities, lora=some)

    @staticmethod
    def spoken_by(config: ModelConfig) -> bool:
        """Whether a model's configuration is of this contract."""
        return input_names(config) >= _NEEDED

    def prompt(self, prompt: Sequence[int]) -> list[Tensor]:
        """The input that holds a prompt."""
        return [bytes_tensor("text_input", [self._words(prompt)])]

    def sampling(self, params: SamplingParams, limit: int, adapter: str) -> list[Tensor]:
        """The inputs that say how a sequence is generated."""
        stops = params.stop_token_ids
        if not params.ignore_eos:
            stops = stops | self._vocabulary.eos
        told: dict[str, Any] = {
            "max_tokens": max(1, limit),
            "temperature": 0.0 if params.greedy else params.temperature,
            "seed": params.seed % _SEEDS,
            # 0 reports the chosen tokens alone; without it there would be no token IDs.
            "logprobs": params.logprobs or 0,
        }
        if stops:
            told["stop_token_ids"] = sorted(stops)
        for name in (*_SENT, *_SENT_TOO):
            value = getattr(params, name)
            if value != getattr(_USUAL, name) and not (params.greedy and name == "top_p"):
                told[name] = value
        if adapter:
            told["lora_name"] = adapter
        sent = [
            tensor("stream", "BOOL", [True]),
            tensor("exclude_input_in_output", "BOOL", [True]),
            bytes_tensor("sampling_parameters", [json.dumps(told)]),
            tensor("return_logprobs", "BOOL", [True]),
        ]
        if self._reasons:
            sent.append(tensor("return_finish_reason", "BOOL", [True]))
        return sent

    def read(self, answer: Mapping[str, Tensor], params: SamplingParams) -> Step:
        """What an answer says."""
        try:
            told = json.loads(answer["logprobs"].elements()[0])
            entries = cast("list[dict[str, dict[str, Any]]]", told or [])
            tokens = [int(next(iter(entry))) for entry in entries]
            scores = [
                None if params.logprobs is None else _score(entry, params.logprobs)
                for entry in entries
            ]
        except (KeyError, IndexError, ValueError, TypeError, StopIteration) as error:
            raise Internal("Triton's model answered without its log-probabilities.") from error
        reason = answer["finish_reason"].texts()[0] if "finish_reason" in answer else "None"
        end = {"stop": EndReason.EOS, "length": EndReason.LENGTH}.get(reason)
        return Step(tokens, scores, end)

    def _words(self, prompt: Sequence[int]) -> str:
        """The text that the backend's tokenizer reads as the prompt."""
        for first in (0, 1):  # it may put a beginning-of-sequence token in front by itself
            words = self._text.decode(prompt[first:]) if len(prompt) > first else ""
            if words and self._same(self._text.encode(words, add_special=True), prompt):
                return words
        raise InvalidArgument(
            "The model's backend takes text, and would read this prompt otherwise than it is "
            "meant: leave out texts that spell the model's special tokens, and broken characters.",
            field="prompt",
        )

    def _same(self, read: Sequence[int], prompt: Sequence[int]) -> bool:
        if list(read) == list(prompt):
            return True
        marks = [[one for one in ids if one in self._special] for ids in (read, prompt)]
        return marks[0] == marks[1] and self._content(read) == self._content(prompt)

    def _content(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._text.piece(one) for one in ids)


def _score(entry: Mapping[str, Mapping[str, Any]], count: int) -> TokenScore | None:
    """A token's score; None for one that ended the sequence, which some don't score."""
    chosen, *_ = entry
    values = {int(name): one["logprob"] for name, one in entry.items()}
    if values[int(chosen)] is None:
        return None
    ranked = sorted(values.items(), key=lambda item: -item[1])[:count]
    top = tuple((token_id, min(0.0, float(value))) for token_id, value in ranked)
    return TokenScore(int(chosen), min(0.0, float(values[int(chosen)])), top)
