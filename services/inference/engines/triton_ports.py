"""Inputs and outputs of text models in Triton, as the backends declare them."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.tritonserver.export.sections import Port


@dataclass(frozen=True, slots=True)
class Ports:
    """What a model takes and gives."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]


_FLAGS = ("stream", "exclude_input_in_output", "return_finish_reason", "return_cumulative_logprob")
_MORE_FLAGS = ("return_logprobs", "return_num_input_tokens", "return_num_output_tokens")

VLLM = Ports(
    inputs=[
        Port("text_input", "STRING", [1]),
        *(Port(name, "BOOL", [1], optional=True) for name in (*_FLAGS, *_MORE_FLAGS)),
        Port("sampling_parameters", "STRING", [1], optional=True),
    ],
    outputs=[
        Port("text_output", "STRING", [-1]),
        Port("finish_reason", "STRING", [-1]),
        Port("cumulative_logprob", "FP32", [-1]),
        Port("logprobs", "STRING", [-1]),
        Port("num_input_tokens", "UINT32", [1]),
        Port("num_output_tokens", "UINT32", [-1]),
    ],
)
"""The vLLM backend's."""

TENSORRT_LLM = Ports(
    inputs=[
        Port("input_ids", "INT32", [-1], ragged=True),
        Port("input_lengths", "INT32", [1]),
        Port("request_output_len", "INT32", [1]),
        Port("end_id", "INT32", [1], optional=True),
        Port("pad_id", "INT32", [1], optional=True),
        Port("stop_words_list", "INT32", [2, -1], optional=True, ragged=True),
        Port("bad_words_list", "INT32", [2, -1], optional=True, ragged=True),
        Port("embedding_bias", "FP32", [-1], optional=True, ragged=True),
        Port("beam_width", "INT32", [1], optional=True),
        Port("temperature", "FP32", [1], optional=True),
        Port("runtime_top_k", "INT32", [1], optional=True),
        Port("runtime_top_p", "FP32", [1], optional=True),
        Port("min_length", "INT32", [1], optional=True),
        Port("repetition_penalty", "FP32", [1], optional=True),
        Port("presence_penalty", "FP32", [1], optional=True),
        Port("frequency_penalty", "FP32", [1], optional=True),
        Port("random_seed", "UINT64", [1], optional=True),
        Port("return_log_probs", "BOOL", [1], optional=True),
        Port("streaming", "BOOL", [1], optional=True),
    ],
    outputs=[
        Port("output_ids", "INT32", [-1, -1]),
        Port("sequence_length", "INT32", [-1]),
        Port("cum_log_probs", "FP32", [-1]),
        Port("output_log_probs", "FP32", [-1, -1]),
    ],
)
"""Those of the model `tensorrt_llm`, which takes and gives token IDs."""
