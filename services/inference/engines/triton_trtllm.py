"""The contract of TensorRT-LLM's backend: token IDs go in and come out.

Its repositories have models for text in front (`ensemble`, `tensorrt_llm_bls`); the one behind them
is called, for it takes the very tokens that a prompt has, and reports those that it makes.
"""

from collections.abc import Mapping, Sequence

from services.errors import Internal
from services.inference.engine import EngineCapabilities, SamplingParams, TokenScore
from services.inference.engines.triton_contract import Step, Vocabulary, input_names, parameter
from services.tritonserver.protocol import ModelConfig, config_pb
from services.tritonserver.tensors import Tensor, tensor

_NEEDED = frozenset({"input_ids", "input_lengths", "request_output_len", "streaming"})
_FIELDS = {
    "temperature": "temperature",
    "top_p": "runtime_top_p",
    "top_k": "runtime_top_k",
    "min_p": "runtime_min_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "embedding_bias",
    "logprobs": "return_log_probs",
    "ignore_eos": "end_id",
}
"""Inputs of sampling fields. Releases differ: a model honours those that its configuration has."""
_LEAST = ("min_tokens", "min_length")
"""What the least length was called, new and old."""
_SEED = ("seed", "random_seed")
_NO_END = -1
_DEFAULT_INNER = "tensorrt_llm"


class TensorrtLlmContract:
    """A model of TensorRT-LLM's backend, or one that speaks like it."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        """Takes the model's configuration and its tokens."""
        self.model = str(config.name)
        self._inputs = input_names(config)
        self._types = {one.name: _datatype(one.data_type) for one in config.input}
        self._lead = [1] if config.max_batch_size else []
        self._vocabulary = vocabulary
        fields = {field for field, name in _FIELDS.items() if name in self._inputs}
        if self._named(_LEAST):
            fields.add("min_tokens")
        self.capabilities = EngineCapabilities(sampling_fields=frozenset(fields))
        self.shares_prefixes = parameter(config, "enable_kv_cache_reuse").lower() == "true"

    @staticmethod
    def spoken_by(config: ModelConfig) -> bool:
        """Whether a model's configuration is of this contract."""
        return input_names(config) >= _NEEDED and bool(config.model_transaction_policy.decoupled)

    def prompt(self, prompt: Sequence[int]) -> list[Tensor]:
        """The inputs that hold a prompt."""
        return [
            self._made("input_ids", prompt, [len(prompt)]),
            self._made("input_lengths", [len(prompt)]),
        ]

    def sampling(self, params: SamplingParams, limit: int, adapter: str) -> list[Tensor]:
        """The inputs that say how a sequence is generated."""
        ends = sorted(self._vocabulary.eos)
        end = _NO_END if params.ignore_eos or not ends else ends[0]
        stops = set(params.stop_token_ids)
        if not params.ignore_eos:
            stops |= set(ends[1:])
        given: dict[str, float | bool] = {
            "request_output_len": max(1, limit),
            "streaming": True,
            "end_id": end,
            "pad_id": max(0, end),
            "beam_width": 1,
            "temperature": 1.0 if params.greedy else params.temperature,
            "runtime_top_k": 1 if params.greedy else params.top_k,
            "runtime_top_p": 1.0 if params.greedy else params.top_p,
            "runtime_min_p": 0.0 if params.greedy else params.min_p,
            "repetition_penalty": params.repetition_penalty,
            "presence_penalty": params.presence_penalty,
            "frequency_penalty": params.frequency_penalty,
            "return_log_probs": params.logprobs is not None,
        }
        if (seed := self._named(_SEED)) is not None:
            given[seed] = params.seed % 2**64
        if params.min_tokens and (least := self._named(_LEAST)) is not None:
            given[least] = params.min_tokens
        sent = [self._made(name, [value]) for name, value in given.items() if name in self._inputs]
        if stops and "stop_words_list" in self._inputs:
            words = sorted(stops)
            # One word a token: the tokens, and where each word ends among them.
            rows = [*words, *range(1, len(words) + 1)]
            sent.append(self._made("stop_words_list", rows, [2, len(words)]))
        if params.logit_bias:
            bias = [params.logit_bias.get(one, 0.0) for one in range(self._vocabulary.size)]
            sent.append(self._made("embedding_bias", bias, [self._vocabulary.size]))
        return sent

    def read(self, answer: Mapping[str, Tensor], params: SamplingParams) -> Step:
        """What an answer says."""
        try:
            ids = answer["output_ids"].array().reshape(-1)
            length = int(answer["sequence_length"].array().reshape(-1)[0])
        except (KeyError, IndexError) as error:
            raise Internal("Triton's model answered without tokens.") from error
        tokens = [int(one) for one in ids[:length]]
        scores: list[TokenScore | None] = [None] * len(tokens)
        told = answer.get("output_log_probs")
        if params.logprobs is not None and told is not None:
            values = [float(one) for one in told.array().reshape(-1)[: len(tokens)]]
            scores[: len(values)] = [
                TokenScore(token, min(0.0, value))
                for token, value in zip(tokens, values, strict=False)
            ]
        return Step(tokens, scores)

    def _named(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self._inputs), None)

    def _made(self, name: str, values: Sequence[float], shape: Sequence[int] = (1,)) -> Tensor:
        return tensor(name, self._types[name], values, [*self._lead, *shape])


def inner_names(config: ModelConfig) -> list[str]:
    """The models behind one for text: an ensemble's steps, or what a BLS model calls."""
    steps = [str(step.model_name) for step in config.ensemble_scheduling.step]
    if steps:
        return steps
    named = parameter(config, "tensorrt_llm_model_name")
    if named or {"text_input", "max_tokens"} <= input_names(config):
        return [named or _DEFAULT_INNER]
    return []


def _datatype(number: int) -> str:
    """The protocol's name of a configuration's data type."""
    return str(config_pb.DataType.Name(number)).removeprefix("TYPE_").replace("STRING", "BYTES")
