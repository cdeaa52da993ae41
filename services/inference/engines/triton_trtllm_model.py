"""Generates text in Triton's python backend, by the contract of TensorRT-LLM's backend, on the
torch engine: token IDs go in and come out. For trials of that contract where there is no GPU.
"""

import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent / "lib"))

import numpy as np
import triton_python_backend_utils  # pyright: ignore[reportMissingImports]  (Triton brings it)

from services.errors import InvalidArgument
from services.inference.engine import Ended, EndReason, SamplingParams, SequenceRequest, Token

if TYPE_CHECKING:
    from services.inference.engines.triton_model_host import Call

pb_utils: Any = triton_python_backend_utils
_UNKNOWN = ("bad_words_list", "embedding_bias")


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model; Triton calls this once."""
        # Not above: Triton starts a process that only looks at this file before the one that runs.
        from services.inference.engines.triton_model_host import Call, ModelHost

        self._call = Call
        self._batched = bool(json.loads(args["model_config"])["max_batch_size"])
        self._host: ModelHost = ModelHost(pb_utils, args, Path(__file__).parent)

    def execute(self, requests: list[Any]) -> None:
        """Begins to answer requests."""
        self._host.begin(requests, self._read)

    def finalize(self) -> None:
        """Frees the device; Triton calls this at the end."""
        self._host.close()

    def _read(self, request: Any, sender: Any) -> "Call":
        for name in _UNKNOWN:
            if _array(request, name) is not None:
                raise InvalidArgument(f"This model takes no {name}.", field=name)
        if not _one(request, "streaming", False):
            raise InvalidArgument("This model streams: set `streaming`.", field="streaming")
        words = _array(request, "stop_words_list")
        stops = () if words is None else words.reshape(2, -1)[0]
        end = int(_one(request, "end_id", -1))
        scored = bool(_one(request, "return_log_probs", False))
        params = SamplingParams(
            max_tokens=int(_one(request, "request_output_len", 1)),
            seed=int(_one(request, "random_seed", secrets.randbits(63))),
            temperature=float(_one(request, "temperature", 1.0)),
            top_k=int(_one(request, "runtime_top_k", 0)),
            top_p=float(_one(request, "runtime_top_p", 1.0)),
            repetition_penalty=float(_one(request, "repetition_penalty", 1.0)),
            presence_penalty=float(_one(request, "presence_penalty", 0.0)),
            frequency_penalty=float(_one(request, "frequency_penalty", 0.0)),
            min_tokens=int(_one(request, "min_length", 0)),
            stop_token_ids=frozenset(int(one) for one in (*stops, end) if one >= 0),
            ignore_eos=end < 0,
            logprobs=0 if scored else None,
        )
        prompt = [int(one) for one in _array(request, "input_ids").reshape(-1)]
        answers = Answers(params.stop_token_ids - {end}, batched=self._batched)
        return self._call(request, sender, SequenceRequest(prompt, params), answers.take)


class Answers:
    """What one request is answered."""

    def __init__(self, stops: frozenset[int], *, batched: bool) -> None:
        """Takes the stop words, and whether tensors have a batch dimension."""
        self._stops = stops
        self._lead = (1,) if batched else ()
        self._total = 0.0

    def take(self, tokens: Sequence[Token], end: Ended | None) -> Any:
        """Takes a step; gives the answer that tells of it. A stop word is among its tokens, the end
        token is not."""
        scores = [token.score.logprob for token in tokens if token.score is not None]
        self._total += sum(scores)
        ids = [token.token_id for token in tokens]
        if end is not None and end.reason is EndReason.STOP_TOKEN and self._stops:
            ids.append(min(self._stops))  # with several, one of them
        values: dict[str, Any] = {
            "output_ids": np.array([ids], np.int32),
            "sequence_length": np.array([len(ids)], np.int32),
            "cum_log_probs": np.array([self._total], np.float32),
            "output_log_probs": np.array([scores], np.float32),
        }
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, value.reshape(*self._lead, *value.shape))
                for name, value in values.items()
            ]
        )


def _array(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _one(request: Any, name: str, usual: Any) -> Any:
    array = _array(request, name)
    return usual if array is None else array.reshape(-1)[0]
